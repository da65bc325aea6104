#include "troupe/models/decoder_stage.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <new>
#include <stdexcept>

#include "troupe/models/sequence_table.hpp"

namespace troupe::models {

namespace {

/// Steps of a stage before the last that may be on the device's way, and that nobody collects.
constexpr size_t most_uncollected = 8;

/// A position of the step whose logits or hidden state somebody wants.
struct wanted_position {
  uint32_t token = 0; ///< Into the packed tokens that are computed.
  size_t row = 0;     ///< Of the step.
  uint32_t layout_row = 0;
  int32_t target = -1; ///< The prompt token that follows, where its log-probability is wanted.
  bool last = false;   ///< The row's last position: sampling.
  bool hidden = false; ///< Its hidden state is wanted.
};

/// Where the hidden state of a picked token goes.
struct wanted_hidden {
  size_t picked = 0;
  uint32_t token = 0;     ///< Into the packed tokens.
  bool embedding = false; ///< What the first layer is fed instead.
  std::span<float> into;
};

/// A step whose results are awaited.
struct awaited_step {
  step_id id{};
  step_ticket ticket{};
  step_result result;
  std::vector<draw> draws; ///< They write into `result`.
  std::chrono::steady_clock::time_point begin;
};

class decoder_stage final : public stage {
public:
  decoder_stage(const decoder_stage_options& options, std::unique_ptr<backend> device,
                decoder_weights weights, const attention_shape& shape)
      : model_(options.model), range_(options.range), device_(std::move(device)),
        weights_(std::move(weights)), shape_(shape),
        sequences_({options.block_tokens, options.blocks, options.context,
                    options.model->config.vocabulary, options.range.begins && options.range.ends,
                    device_->runs_ahead()},
                   shape.rotary ? &options.model->config.rope : nullptr, options.range.ends) {
    warm_up(options.max_step_tokens);
  }

  caf::expected<stage_output> forward(const step& s, const activation& input) override {
    auto passed = enqueue(s, input, nullptr);
    if (!passed)
      return passed.error();
    stage_output out{.passed = std::move(*passed), .result = {}};
    auto awaited = std::move(awaited_.back());
    awaited_.pop_back();
    auto result = finish(std::move(awaited));
    if (!result)
      return result.error();
    if (range_.ends) {
      out.result = std::move(*result);
      const auto checked = sequences_.rows();
      for (size_t i = 0; i < checked.size(); ++i)
        if (checked[i].sequence != nullptr)
          checked[i].sequence->drawn = out.result.rows[i].token;
    }
    return out;
  }

  caf::expected<launched_step> launch(const step& s, const activation& input,
                                      step_completion done) override {
    if (!device_->runs_ahead())
      return stage::launch(s, input, std::move(done));
    auto passed = enqueue(s, input, range_.ends ? std::move(done) : step_completion{});
    if (!passed)
      return passed.error();
    if (auto err = put_aside(most_uncollected))
      return err;
    return launched_step{.passed = std::move(*passed), .result = {}};
  }

  caf::expected<step_result> collect(step_id id) override {
    const auto place = std::find_if(awaited_.begin(), awaited_.end(),
                                    [&](const auto& awaited) { return awaited->id == id; });
    if (place == awaited_.end())
      return stage::collect(id);
    auto awaited = std::move(*place);
    // Steps end in their order: whoever stands before was given up.
    awaited_.erase(awaited_.begin(), place + 1);
    return finish(std::move(awaited));
  }

  void skip(const step& s) override {
    if (auto done = on_device([&] { return bookkeeping(s); }); !done)
      throw std::runtime_error{text_of(done.error())};
  }
  caf::expected<uint64_t> measure_block_move() override {
    return on_device([&] {
      constexpr uint32_t rounds = 8;
      const uint32_t blocks = std::min(shape_.blocks, 16u);
      uint64_t best = UINT64_MAX;
      // The first rounds also take the memory that is moved into.
      for (uint32_t i = 0; i < rounds; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        device_->begin_step({});
        for (uint32_t b = 0; b < blocks; ++b)
          device_->swap_out(b, b);
        for (uint32_t b = 0; b < blocks; ++b)
          device_->swap_in(b, b);
        device_->wait(device_->finish_step(nullptr));
        const auto took = std::chrono::steady_clock::now() - begin;
        best = std::min(best, static_cast<uint64_t>(took.count()) / (2 * blocks));
      }
      return std::max<uint64_t>(best, 1);
    });
  }

  bool has_idle_work() const override { return device_->has_rehearsals(); }

  caf::expected<bool> idle_work() override {
    // Waiting for a later step gives away the results of all before it.
    if (auto err = put_aside(0))
      return err;
    return on_device([&] {
      if (!device_->has_rehearsals())
        return false;
      hidden_wanted_.clear(); // those of the last step
      const size_t count = device_->rehearse();
      auto hidden = device_->matrix(scratch::hidden, count, config().hidden);
      if (!device_->replay()) {
        run_layers(hidden);
        for (size_t first = 0; range_.ends && first < count; first += device_->logits_rows())
          device_->sample(logits_of(select(hidden, first)), first);
        device_->end_pass();
      }
      device_->wait(device_->finish_step(nullptr));
      return device_->has_rehearsals();
    });
  }

  uint64_t weight_bytes() const override { return device_->weight_bytes(); }
  uint64_t kv_bytes() const override { return device_->kv_bytes(); }

private:
  const decoder_config& config() const { return model_->config; }

  /// Runs `f`, which calls the device; what it throws becomes an error.
  template <class F>
  auto on_device(F&& f) -> caf::expected<decltype(f())> {
    try {
      return f();
    } catch (const device_failure& x) {
      return caf::make_error(x.code(), std::string{x.what()});
    } catch (const std::bad_alloc&) {
      return caf::make_error(ec::out_of_memory,
                             std::string{"the step needs more memory than there is"});
    } catch (const std::exception& x) {
      return caf::make_error(ec::step_fault, std::string{"the step failed: "} + x.what());
    }
  }

  /// Calls the step's operations; the step is then the last of `awaited_`.
  caf::expected<activation> enqueue(const step& s, const activation& input,
                                    std::function<void()> done) {
    const auto begin = std::chrono::steady_clock::now();
    auto passed = on_device([&]() -> caf::expected<activation> {
      bookkeeping(s);
      auto& awaited = awaited_.emplace_back(new_awaited());
      awaited->id = s.id;
      awaited->begin = begin;
      auto sent = run(s, input, *awaited);
      if (sent)
        awaited->ticket = device_->finish_step(std::move(done));
      else
        drop_last();
      return sent;
    });
    if (passed)
      return std::move(*passed);
    if (!awaited_.empty() && awaited_.back()->id == s.id)
      drop_last();
    return passed.error();
  }

  caf::expected<step_result> finish(std::unique_ptr<awaited_step> awaited) {
    auto result = on_device([&] {
      device_->wait(awaited->ticket);
      awaited->result.compute_ns =
          static_cast<uint64_t>((std::chrono::steady_clock::now() - awaited->begin).count());
      awaited->result.device_ns = device_->device_ns();
      return std::move(awaited->result);
    });
    spare_.push_back(std::move(awaited));
    return result;
  }

  /// Of a stage before the last nobody collects steps: the oldest are over, all but `most`.
  caf::error put_aside(size_t most) {
    while (!range_.ends && awaited_.size() > most) {
      auto oldest = std::move(awaited_.front());
      awaited_.pop_front();
      if (auto over = finish(std::move(oldest)); !over)
        return over.error();
    }
    return {};
  }

  /// Used again, so that a step allocates little.
  std::unique_ptr<awaited_step> new_awaited() {
    if (spare_.empty())
      return std::make_unique<awaited_step>();
    auto one = std::move(spare_.back());
    spare_.pop_back();
    return one;
  }

  void drop_last() {
    spare_.push_back(std::move(awaited_.back()));
    awaited_.pop_back();
  }

  /// Scratch for a whole step is taken at once, so that no step allocates.
  void warm_up(size_t tokens) {
    const auto& c = config();
    device_->matrix(scratch::hidden, tokens, c.hidden);
    device_->matrix(scratch::normed, tokens, c.hidden);
    device_->matrix(scratch::qkv, tokens, c.q_width() + size_t{2} * c.kv_width());
    device_->matrix(scratch::attended, tokens, c.q_width());
    device_->matrix(scratch::mlp, tokens, c.intermediate);
  }

  bool bookkeeping(const step& s) {
    sequences_.apply(s);
    for (const auto& start : s.starts)
      if (const auto* state = sequences_.find(start.sequence))
        device_->start_sequence(state->slot, start, frequencies_of(*state), range_.ends);
    const auto checked = sequences_.rows();
    for (size_t i = 0; i < checked.size(); ++i)
      if (const auto* state = checked[i].sequence; state != nullptr && !state->has_bad_block) {
        const auto added = std::min<size_t>(s.rows[i].block_count, state->blocks.size());
        const auto first = state->blocks.size() - added;
        if (added > 0)
          device_->extend_table(state->slot, first, std::span{state->blocks}.subspan(first));
      }
    for (const auto& swap : s.swaps_out)
      if (valid(swap.device))
        device_->swap_out(static_cast<uint32_t>(swap.device), static_cast<uint32_t>(swap.host));
    for (const auto& swap : s.swaps_in)
      if (valid(swap.device))
        device_->swap_in(static_cast<uint32_t>(swap.host), static_cast<uint32_t>(swap.device));
    for (const auto& copy : s.copies)
      if (valid(copy.from) && valid(copy.to))
        device_->copy_block(static_cast<uint32_t>(copy.from), static_cast<uint32_t>(copy.to));
    return true;
  }

  static std::span<const float> frequencies_of(const sequence_state& state) {
    return state.frequencies ? std::span<const float>{*state.frequencies}
                             : std::span<const float>{};
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
                   .frequencies = frequencies_of(*checked[i].sequence),
                   .slot = checked[i].sequence->slot};
      rows_.push_back(r);
      for (uint32_t t = 0; t < row.token_count; ++t) {
        const auto token = s.tokens[row.first_token + t];
        tokens_.push_back(token == pending_token ? checked[i].pending : token);
        positions_.push_back(row.position + t);
      }
    }
  }

  caf::expected<activation> run(const step& s, const activation& input, awaited_step& awaited) {
    lay_out(s);
    if (range_.ends)
      prepare_answer(s, awaited);
    const size_t tokens = tokens_.size();
    if (!range_.begins && tokens > 0 &&
        (input.empty() || input.rows() != static_cast<int64_t>(tokens) ||
         input.columns() != config().hidden || input.type() != dtype::fp32))
      return caf::make_error(ec::step_fault, "the stage before sent an activation of " +
                                                 std::to_string(input.rows()) + " x " +
                                                 std::to_string(input.columns()) + " for " +
                                                 std::to_string(tokens) + " tokens");
    const size_t count = device_->begin_step({.rows = rows_,
                                              .tokens = tokens_,
                                              .positions = positions_,
                                              .picked = picked_,
                                              .draws = awaited.draws,
                                              .reads_rows = !hidden_wanted_.empty()});
    auto hidden = device_->matrix(scratch::hidden, count, config().hidden);
    if (tokens > 0) {
      if (!range_.begins)
        device_->receive(input, hidden);
      if (!device_->replay()) {
        run_layers(hidden);
        if (range_.ends)
          answer(hidden, awaited);
        device_->end_pass();
      }
    }
    return range_.ends ? activation{} : device_->send(hidden, tokens);
  }

  void run_layers(tensor_view hidden) {
    if (range_.begins)
      device_->embed(*weights_.embedding, weights_.positions.get(), hidden);
    for (const auto& wanted : hidden_wanted_)
      if (wanted.embedding)
        device_->read_row(hidden, wanted.token, wanted.into);
    for (uint32_t layer = 0; layer < range_.count(); ++layer)
      run_layer(layer, hidden);
  }

  void run_layer(uint32_t layer, tensor_view hidden) {
    const auto& c = config();
    const auto& w = weights_.layers[layer];
    const size_t count = hidden.rows;
    auto normed = device_->matrix(scratch::normed, count, c.hidden);
    auto qkv = device_->matrix(scratch::qkv, count, c.q_width() + size_t{2} * c.kv_width());
    device_->norm_linear(*w.attention_norm, *w.qkv, hidden, normed, qkv);
    auto attended = device_->matrix(scratch::attended, count, c.q_width());
    device_->attention(layer, qkv, w.q_norm.get(), w.k_norm.get(), c.window(range_.first + layer),
                       attended);
    device_->linear(*w.out, attended, hidden, true);

    auto mlp = device_->matrix(scratch::mlp, count, c.intermediate);
    device_->norm_linear_activated(*w.mlp_norm, *w.up, c.activation, hidden, normed, mlp);
    device_->linear(*w.down, mlp, hidden, true);
  }

  /// Which positions need logits, row by row.
  void collect_wanted(const step& s) {
    wanted_.clear();
    const auto checked = sequences_.rows();
    uint32_t token = 0;
    uint32_t layout_row = 0;
    for (size_t i = 0; i < checked.size(); ++i) {
      if (!checked[i].fault.empty())
        continue;
      const auto& row = s.rows[i];
      const auto& wants = row.wants;
      const auto& sampler = *checked[i].sequence->sampler;
      for (uint32_t t = 0; t < row.token_count; ++t, ++token) {
        wanted_position w{.token = token, .row = i, .layout_row = layout_row};
        const uint32_t next = row.position + t + 1;
        if (wants.prompt_logprobs && next < sampler.prompt_length() &&
            next < sampler.history().size())
          w.target = sampler.history()[next];
        const bool end = t + 1 == row.token_count;
        w.last = end && (wants.sample || wants.candidates > 0);
        w.hidden = wants.hidden_state && (end || wants.all_hidden);
        if (w.target >= 0 || w.last || w.hidden)
          wanted_.push_back(w);
      }
      ++layout_row;
    }
  }

  /// What is wanted of the step: the result's rows, picked tokens and draws.
  void prepare_answer(const step& s, awaited_step& awaited) {
    auto& result = awaited.result;
    result = {.epoch = s.epoch, .id = s.id, .rows = {}, .compute_ns = 0};
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
    size_hidden(s, result);
    picked_.clear();
    hidden_wanted_.clear();
    awaited.draws.clear();
    for (const auto& w : wanted_) {
      const auto& row = s.rows[w.row];
      auto& into = result.rows[w.row];
      if (w.hidden) {
        const auto at = row.wants.all_hidden ? w.token - rows_[w.layout_row].first_token : 0;
        hidden_wanted_.push_back(
            {picked_.size(), w.token, row.wants.embeddings,
             std::span{into.hidden}.subspan(at * config().hidden, config().hidden)});
      }
      if (w.last || w.target >= 0)
        awaited.draws.push_back({.row = picked_.size(),
                                 .layout_row = w.layout_row,
                                 .sampler = w.last ? &*checked[w.row].sequence->sampler : nullptr,
                                 .wants = row.wants,
                                 .position = row.position + row.token_count,
                                 .target = w.target,
                                 .into = &into});
      picked_.push_back(w.token);
    }
  }

  /// Room for the hidden states that rows want; what cannot be had is their fault.
  void size_hidden(const step& s, step_result& result) {
    for (size_t i = 0; i < s.rows.size(); ++i) {
      const auto& row = s.rows[i];
      auto& into = result.rows[i];
      if (!row.wants.hidden_state || into.fault != ec::none)
        continue;
      into.hidden.resize(size_t{row.wants.all_hidden ? row.token_count : 1} * config().hidden);
      if (row.wants.embeddings && !range_.begins) {
        // Whoever asked can do something about it, so it must not read as a failure of the model.
        into.fault = ec::invalid_request;
        into.fault_text = "contrastive_hidden=embedding needs a model in one piece, and this one "
                          "is spread over several shards: use last, or tensor_parallel_degree=1";
      }
    }
  }

  void answer(tensor_view hidden, const awaited_step& awaited) {
    auto next_draw = awaited.draws.begin();
    for (size_t first = 0; first < picked_.size(); first += device_->logits_rows()) {
      const auto end = std::min(first + device_->logits_rows(), picked_.size());
      auto selected = select(hidden, first);
      for (const auto& wanted : hidden_wanted_)
        if (!wanted.embedding && wanted.picked >= first && wanted.picked < end)
          device_->read_row(selected, wanted.picked - first, wanted.into);
      const auto group_end =
          std::find_if(next_draw, awaited.draws.end(), [&](const draw& d) { return d.row >= end; });
      if (next_draw == group_end)
        continue;
      next_draw = group_end;
      device_->sample(logits_of(selected), first);
    }
  }

  /// The group of picked tokens that begins at `first`, normalised.
  tensor_view select(tensor_view hidden, size_t first) {
    auto selected = device_->matrix(scratch::selected, device_->group_rows(first), config().hidden);
    device_->norm_picked(*weights_.final_norm, hidden, first, selected);
    return selected;
  }

  tensor_view logits_of(tensor_view selected) {
    auto logits = device_->matrix(scratch::logits, selected.rows, config().vocabulary);
    device_->linear(*weights_.head, selected, logits, false);
    return logits;
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
  std::vector<wanted_hidden> hidden_wanted_;
  std::deque<std::unique_ptr<awaited_step>> awaited_; ///< In the order of their ids.
  std::vector<std::unique_ptr<awaited_step>> spare_;
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
  auto weights =
      load_weights(model, options.range, *device, progress, options.quantized, options.random_seed);
  if (!weights)
    return weights.error();
  try {
    device->loaded();
  } catch (const device_failure& x) {
    return caf::make_error(x.code(), std::string{x.what()});
  }
  return std::unique_ptr<stage>{
      std::make_unique<decoder_stage>(options, std::move(device), std::move(*weights), shape)};
}

} // namespace troupe::models
