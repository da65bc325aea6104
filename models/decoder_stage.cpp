#include "troupe/models/decoder_stage.hpp"

#include <chrono>
#include <cmath>
#include <new>
#include <stdexcept>

#include "troupe/models/sequence_table.hpp"

namespace troupe::models {

namespace {

/// Rows of logits that are computed at once: the weight is streamed once for so many, and prompt
/// log-probabilities of a long prompt take no more memory than this.
constexpr size_t logits_rows = 64;

/// A position of the step whose logits or hidden state somebody wants.
struct wanted_position {
  uint32_t token = 0;  ///< Into the packed tokens that are computed.
  size_t row = 0;      ///< Of the step.
  int32_t target = -1; ///< The prompt token that follows, where its log-probability is wanted.
  bool last = false;   ///< The row's last position: sampling and hidden state.
};

class decoder_stage final : public stage {
public:
  decoder_stage(const decoder_stage_options& options, std::unique_ptr<backend> device,
                decoder_weights weights, const attention_shape& shape)
      : model_(options.model), range_(options.range), device_(std::move(device)),
        weights_(std::move(weights)), shape_(shape),
        sequences_({options.block_tokens, options.blocks, options.context,
                    options.model->config.vocabulary, options.range.begins && options.range.ends},
                   shape.rotary ? &options.model->config.rope : nullptr, options.range.ends) {
    warm_up(options.max_step_tokens);
  }

  caf::expected<stage_output> forward(const step& s, const activation& input) override {
    const auto begin = std::chrono::steady_clock::now();
    bookkeeping(s);
    try {
      auto out = run(s, input);
      if (out && range_.ends)
        out->result.compute_ns =
            static_cast<uint64_t>((std::chrono::steady_clock::now() - begin).count());
      return out;
    } catch (const std::bad_alloc&) {
      return caf::make_error(ec::out_of_memory,
                             std::string{"the step needs more memory than there is"});
    } catch (const std::exception& x) {
      return caf::make_error(ec::step_fault, std::string{"the step failed: "} + x.what());
    }
  }

  void skip(const step& s) override { bookkeeping(s); }
  uint64_t weight_bytes() const override { return device_->weight_bytes(); }
  uint64_t kv_bytes() const override { return device_->kv_bytes(); }

private:
  const decoder_config& config() const { return model_->config; }

  /// Scratch for a whole step is taken at once, so that no step allocates.
  void warm_up(size_t tokens) {
    const auto& c = config();
    device_->matrix(scratch::hidden, tokens, c.hidden);
    device_->matrix(scratch::normed, tokens, c.hidden);
    device_->matrix(scratch::qkv, tokens, c.q_width() + size_t{2} * c.kv_width());
    device_->matrix(scratch::attended, tokens, c.q_width());
    device_->matrix(scratch::mlp, tokens, c.intermediate);
  }

  void bookkeeping(const step& s) {
    sequences_.apply(s);
    for (const auto& swap : s.swaps_out)
      if (valid(swap.device))
        device_->swap_out(static_cast<uint32_t>(swap.device), static_cast<uint32_t>(swap.host));
    for (const auto& swap : s.swaps_in)
      if (valid(swap.device))
        device_->swap_in(static_cast<uint32_t>(swap.host), static_cast<uint32_t>(swap.device));
    for (const auto& copy : s.copies)
      if (valid(copy.from) && valid(copy.to))
        device_->copy_block(static_cast<uint32_t>(copy.from), static_cast<uint32_t>(copy.to));
  }

  bool valid(block_id b) const { return static_cast<uint32_t>(b) < shape_.blocks; }

  /// Packs the tokens of the rows that can be computed.
  void lay_out(const step& s) {
    rows_.clear();
    tokens_.clear();
    positions_.clear();
    const auto checked = sequences_.rows();
    for (size_t i = 0; i < checked.size(); ++i) {
      if (!checked[i].fault.empty())
        continue;
      const auto& row = s.rows[i];
      layout_row r{.first_token = static_cast<uint32_t>(tokens_.size()),
                   .token_count = row.token_count,
                   .position = row.position,
                   .blocks = checked[i].sequence->blocks.data(),
                   .frequencies = {}};
      if (checked[i].sequence->frequencies)
        r.frequencies = *checked[i].sequence->frequencies;
      rows_.push_back(r);
      for (uint32_t t = 0; t < row.token_count; ++t) {
        const auto token = s.tokens[row.first_token + t];
        tokens_.push_back(token == pending_token ? checked[i].pending : token);
        positions_.push_back(row.position + t);
      }
    }
  }

  caf::expected<stage_output> run(const step& s, const activation& input) {
    stage_output out;
    lay_out(s);
    const size_t count = tokens_.size();
    auto hidden = device_->matrix(scratch::hidden, count, config().hidden);
    if (count > 0) {
      device_->begin_step(rows_, positions_);
      if (range_.begins) {
        device_->embed(*weights_.embedding, tokens_, weights_.positions.get(), hidden);
      } else {
        if (input.empty() || input.rows() != static_cast<int64_t>(count) ||
            input.columns() != config().hidden || input.type() != dtype::fp32)
          return caf::make_error(ec::step_fault, "the stage before sent an activation of " +
                                                     std::to_string(input.rows()) + " x " +
                                                     std::to_string(input.columns()) + " for " +
                                                     std::to_string(count) + " tokens");
        device_->receive(input, hidden);
      }
      for (uint32_t layer = 0; layer < range_.count(); ++layer)
        run_layer(layer, hidden);
    }
    if (range_.ends)
      out.result = answer(s, hidden);
    else
      out.passed = device_->send(hidden);
    return out;
  }

  void run_layer(uint32_t layer, tensor_view hidden) {
    const auto& c = config();
    const auto& w = weights_.layers[layer];
    const size_t count = hidden.rows;
    auto normed = device_->matrix(scratch::normed, count, c.hidden);
    device_->norm(*w.attention_norm, hidden, normed);
    auto qkv = device_->matrix(scratch::qkv, count, c.q_width() + size_t{2} * c.kv_width());
    device_->linear(*w.qkv, normed, qkv, false);
    device_->rotary_and_store(layer, qkv, w.q_norm.get(), w.k_norm.get());
    auto attended = device_->matrix(scratch::attended, count, c.q_width());
    device_->attend(layer, qkv, c.window(range_.first + layer), attended);
    device_->linear(*w.out, attended, hidden, true);

    device_->norm(*w.mlp_norm, hidden, normed);
    auto mlp = device_->matrix(scratch::mlp, count, c.intermediate);
    device_->linear_activated(*w.up, c.activation, normed, mlp);
    device_->linear(*w.down, mlp, hidden, true);
  }

  /// Which positions need logits, row by row.
  void collect_wanted(const step& s) {
    wanted_.clear();
    const auto checked = sequences_.rows();
    uint32_t token = 0;
    for (size_t i = 0; i < checked.size(); ++i) {
      if (!checked[i].fault.empty())
        continue;
      const auto& row = s.rows[i];
      const auto& wants = row.wants;
      const auto& sampler = *checked[i].sequence->sampler;
      for (uint32_t t = 0; t < row.token_count; ++t, ++token) {
        wanted_position w{.token = token, .row = i};
        const uint32_t next = row.position + t + 1;
        if (wants.prompt_logprobs && next < sampler.prompt_length() &&
            next < sampler.history().size())
          w.target = sampler.history()[next];
        w.last = t + 1 == row.token_count &&
                 (wants.sample || wants.candidates > 0 || wants.hidden_state);
        if (w.target >= 0 || w.last)
          wanted_.push_back(w);
      }
    }
  }

  step_result answer(const step& s, tensor_view hidden) {
    step_result result{.epoch = s.epoch, .id = s.id, .rows = {}, .compute_ns = 0};
    result.rows.resize(s.rows.size());
    const auto checked = sequences_.rows();
    for (size_t i = 0; i < s.rows.size(); ++i) {
      result.rows[i].sequence = s.rows[i].sequence;
      if (!checked[i].fault.empty()) {
        result.rows[i].fault = ec::row_fault;
        result.rows[i].fault_text = checked[i].fault;
      }
    }
    collect_wanted(s);
    for (size_t first = 0; first < wanted_.size(); first += logits_rows)
      answer_some(s,
                  std::span{wanted_}.subspan(first, std::min(logits_rows, wanted_.size() - first)),
                  hidden, result);
    for (size_t i = 0; i < s.rows.size(); ++i)
      if (checked[i].sequence != nullptr)
        checked[i].sequence->drawn = result.rows[i].token;
    return result;
  }

  void answer_some(const step& s, std::span<const wanted_position> wanted, tensor_view hidden,
                   step_result& result) {
    const auto& c = config();
    picked_.clear();
    for (const auto& w : wanted)
      picked_.push_back(w.token);
    auto selected = device_->matrix(scratch::selected, wanted.size(), c.hidden);
    device_->norm_rows(*weights_.final_norm, hidden, picked_, selected);
    draws_.clear();
    const auto checked = sequences_.rows();
    for (size_t i = 0; i < wanted.size(); ++i) {
      const auto& w = wanted[i];
      const auto& row = s.rows[w.row];
      auto& into = result.rows[w.row];
      if (w.last && row.wants.hidden_state) {
        into.hidden.resize(c.hidden);
        device_->read_row(selected, i, into.hidden);
      }
      const bool draws = w.last && (row.wants.sample || row.wants.candidates > 0);
      if (draws || w.target >= 0)
        draws_.push_back({.row = i,
                          .sampler = draws ? &*checked[w.row].sequence->sampler : nullptr,
                          .wants = row.wants,
                          .position = row.position + row.token_count,
                          .target = w.target,
                          .into = &into});
    }
    if (draws_.empty())
      return;
    auto logits = device_->matrix(scratch::logits, wanted.size(), c.vocabulary);
    device_->linear(*weights_.head, selected, logits, false);
    device_->sample(logits, draws_);
  }

  std::shared_ptr<const decoder_model> model_;
  layer_range range_;
  std::unique_ptr<backend> device_; // Before the weights: they live in its memory.
  decoder_weights weights_;
  attention_shape shape_;
  sequence_table sequences_;
  // The step, kept so that no step allocates.
  std::vector<layout_row> rows_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> positions_;
  std::vector<wanted_position> wanted_;
  std::vector<uint32_t> picked_;
  std::vector<draw> draws_;
};

} // namespace

caf::expected<std::unique_ptr<stage>> make_decoder_stage(const decoder_stage_options& options,
                                                         std::unique_ptr<backend> device,
                                                         const load_progress& progress) {
  const auto& model = *options.model;
  const auto& c = model.config;
  const bool rotary = model.recipe->positions == position_kind::rotary;
  const attention_shape shape{.layers = options.range.count(),
                              .heads = c.heads,
                              .kv_heads = c.kv_heads,
                              .head_size = c.head_size,
                              .block_tokens = options.block_tokens,
                              .blocks = options.blocks,
                              .scale = 1.0f / std::sqrt(static_cast<float>(c.head_size)),
                              .rotary_factor =
                                  rotary ? static_cast<float>(c.rope.attention_factor) : 1.0f,
                              .rotary = rotary};
  if (auto err = device->make_pages(shape))
    return err;
  auto weights = load_weights(model, options.range, *device, progress);
  if (!weights)
    return weights.error();
  return std::unique_ptr<stage>{
      std::make_unique<decoder_stage>(options, std::move(device), std::move(*weights), shape)};
}

} // namespace troupe::models
