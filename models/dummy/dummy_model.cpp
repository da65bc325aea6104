#include "troupe/models/dummy/dummy_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "troupe/models/placement.hpp"
#include "troupe/models/sequence_table.hpp"

namespace troupe::models {

namespace {

constexpr uint32_t dummy_layers = 4;
constexpr uint32_t dummy_context = 8192;
/// A token depends on so many tokens before it, that is, on so many slots of the pages.
constexpr uint32_t memory_tokens = 4;

int32_t token_after(std::span<const int32_t> last, uint32_t position) {
  // Words of one to five letters.
  if (position % 6 == 5)
    return ' ';
  uint32_t hash = 2166136261U ^ position;
  for (auto t : last)
    hash = (hash ^ static_cast<uint32_t>(t)) * 16777619U;
  return 'a' + static_cast<int32_t>((hash >> 8) % 26);
}

class host_floats final : public activation::storage {
public:
  explicit host_floats(std::vector<float> data) : data_(std::move(data)) {}
  const std::byte* host_bytes() override {
    return reinterpret_cast<const std::byte*>(data_.data());
  }
  void* native() override { return nullptr; }

private:
  std::vector<float> data_;
};

/// Counts down an order of `dummy_faults`; true once.
bool due(std::atomic<int32_t>& stage, std::atomic<int64_t>& steps, int32_t index) {
  if (stage.load() != index || steps.fetch_sub(1) > 0)
    return false;
  stage = -1;
  return true;
}

class dummy_stage final : public stage {
public:
  dummy_stage(uint32_t index, uint32_t stages, const sequence_table::limits& limits,
              std::shared_ptr<dummy_faults> faults)
      : index_(static_cast<int32_t>(index)), ends_(index + 1 == stages), limits_(limits),
        faults_(std::move(faults)), sequences_(limits, nullptr, ends_) {
    if (ends_)
      pages_.assign(size_t{limits.blocks} * limits.block_tokens, -1);
  }

  caf::expected<stage_output> forward(const step& s, const activation& input) override {
    const auto begin = std::chrono::steady_clock::now();
    skip(s);
    try {
      if (faults_) {
        if (due(faults_->lose_stage, faults_->lose_after_steps, index_))
          return caf::make_error(ec::device_lost, std::string{"the test ordered the stage's loss"});
        provoke(s);
      }
      stage_output out;
      if (!ends_) {
        out.passed = pass(s);
        return out;
      }
      out.result = answer(s, input);
      out.result.compute_ns =
          static_cast<uint64_t>((std::chrono::steady_clock::now() - begin).count());
      return out;
    } catch (const std::exception& x) {
      return caf::make_error(ec::step_fault, std::string{"the step failed: "} + x.what());
    }
  }

  void skip(const step& s) override {
    sequences_.apply(s);
    if (!ends_)
      return;
    for (const auto& copy : s.copies) {
      const auto from = static_cast<uint32_t>(copy.from), to = static_cast<uint32_t>(copy.to);
      if (from < limits_.blocks && to < limits_.blocks)
        std::copy_n(slot(from, 0), limits_.block_tokens, slot(to, 0));
    }
  }

  uint64_t weight_bytes() const override { return 0; }
  uint64_t kv_bytes() const override { return pages_.size() * sizeof(int32_t); }

private:
  int32_t* slot(uint32_t block, uint32_t place) {
    return pages_.data() + size_t{block} * limits_.block_tokens + place;
  }

  void provoke(const step& s) {
    if (const auto time = faults_->step_microseconds.load(); time > 0)
      std::this_thread::sleep_for(std::chrono::microseconds{time});
    if (due(faults_->throw_in_stage, faults_->throw_after_steps, index_))
      throw std::runtime_error("the test ordered an exception");
    const auto poison = faults_->poison_token.load();
    if (poison >= 0 && std::find(s.tokens.begin(), s.tokens.end(), poison) != s.tokens.end())
      throw std::runtime_error("the test ordered an exception for this token");
  }

  activation pass(const step& s) const {
    std::vector<float> values(s.tokens.begin(), s.tokens.end());
    const auto rows = static_cast<int64_t>(values.size());
    return {dtype::fp32, rows, 1, std::make_shared<host_floats>(std::move(values))};
  }

  /// The tokens come from the stage before, so that a mixed-up activation shows.
  int32_t fed(const step& s, const activation& input, const checked_row& row,
              uint32_t index) const {
    if (s.tokens[index] == pending_token)
      return row.pending;
    if (index_ == 0)
      return s.tokens[index];
    float value = 0;
    std::memcpy(&value, input.data()->host_bytes() + index * sizeof(float), sizeof(float));
    return static_cast<int32_t>(value);
  }

  step_result answer(const step& s, const activation& input) {
    if (index_ > 0 && (input.empty() || input.rows() != static_cast<int64_t>(s.tokens.size())))
      throw std::runtime_error("the activation belongs to another step");
    step_result result{.epoch = s.epoch, .id = s.id, .rows = {}, .compute_ns = 0};
    result.rows.resize(s.rows.size());
    const auto checked = sequences_.rows();
    const auto faulty = faults_ ? faults_->faulty_token.load() : -1;
    for (size_t i = 0; i < s.rows.size(); ++i) {
      const auto& row = s.rows[i];
      auto& into = result.rows[i];
      into.sequence = row.sequence;
      into.fault_text = checked[i].fault;
      if (into.fault_text.empty())
        store(s, input, row, checked[i], faulty, into.fault_text);
      if (into.fault_text.empty())
        answer_row(row, *checked[i].sequence, into);
      else
        into.fault = ec::row_fault;
      if (checked[i].sequence != nullptr)
        checked[i].sequence->drawn = into.token;
    }
    return result;
  }

  void store(const step& s, const activation& input, const step_row& row,
             const checked_row& checked, int32_t faulty, std::string& fault) {
    const auto& sequence = *checked.sequence;
    for (uint32_t t = 0; t < row.token_count; ++t) {
      const auto token = fed(s, input, checked, row.first_token + t);
      const auto position = row.position + t;
      *slot(sequence.blocks[position / limits_.block_tokens], position % limits_.block_tokens) =
          token;
      if (faulty >= 0 && token == faulty)
        fault = "the test ordered a fault for token " + std::to_string(token);
    }
  }

  void answer_row(const step_row& row, const sequence_state& sequence, row_result& into) {
    const auto& wants = row.wants;
    const auto& sampler = *sequence.sampler;
    if (wants.prompt_logprobs) {
      for (uint32_t t = 0; t < row.token_count; ++t) {
        const auto next = row.position + t + 1;
        if (next >= sampler.prompt_length() || next >= sampler.history().size())
          break;
        into.prompt.push_back({sampler.history()[next], -1.0f});
        into.prompt_top.push_back(top(sampler.history()[next], wants.top_n));
      }
    }
    if (wants.hidden_state)
      into.hidden.assign(wants.all_hidden ? row.token_count : 1, static_cast<float>(row.position));
    const auto token = next_token(row.position + row.token_count, sequence);
    if (wants.candidates > 0) {
      into.candidates = top(token, wants.candidates);
      for (auto& candidate : into.candidates) {
        into.candidate_logprobs.push_back(candidate.value);
        if (wants.scores == candidate_scores::probabilities)
          candidate.value = std::exp(candidate.value);
      }
      into.candidate_keys.assign(into.candidate_logprobs.begin(), into.candidate_logprobs.end());
      into.top = top(token, wants.top_n);
    } else if (wants.sample) {
      into.token = token;
      into.logprob = -0.5f;
      into.top = top(token, wants.top_n);
    }
  }

  int32_t next_token(uint32_t length, const sequence_state& sequence) {
    if (faults_ && faults_->eos_at_length.load() > 0 && length + 1 >= faults_->eos_at_length.load())
      return dummy_eos;
    std::array<int32_t, memory_tokens> last{};
    const auto count = std::min(length, memory_tokens);
    for (uint32_t i = 0; i < count; ++i) {
      const auto position = length - count + i;
      last[i] =
          *slot(sequence.blocks[position / limits_.block_tokens], position % limits_.block_tokens);
    }
    return token_after(std::span{last.data(), count}, length);
  }

  static std::vector<token_value> top(int32_t first, uint16_t count) {
    std::vector<token_value> list;
    for (uint16_t i = 0; i < count; ++i)
      list.push_back({static_cast<int32_t>((static_cast<uint32_t>(first) + i) % 256), -0.5f - i});
    return list;
  }

  int32_t index_;
  bool ends_;
  sequence_table::limits limits_;
  std::shared_ptr<dummy_faults> faults_;
  sequence_table sequences_;
  std::vector<int32_t> pages_; ///< The tokens themselves stand for keys and values.
};

} // namespace

int32_t dummy_next_token(std::span<const int32_t> history) {
  const auto count = std::min<size_t>(history.size(), memory_tokens);
  return token_after(history.last(count), static_cast<uint32_t>(history.size()));
}

caf::expected<model_plan> plan_dummy(const load_options& options,
                                     std::shared_ptr<dummy_faults> faults) {
  if (options.shards == 0 || options.shards > 64)
    return caf::make_error(ec::bad_option, "the dummy model runs on 1 to 64 shards, not on " +
                                               std::to_string(options.shards));
  if (options.kv_block_tokens == 0)
    return caf::make_error(ec::bad_option, std::string{"a KV block holds at least one token"});
  if (options.dummy_step_us > 0 && !faults) {
    faults = std::make_shared<dummy_faults>();
    faults->step_microseconds = options.dummy_step_us;
  }
  model_plan plan;
  auto& info = plan.info;
  info.architecture = "dummy";
  info.layers = std::max(dummy_layers, options.shards);
  info.hidden = 1;
  info.vocabulary = dummy_vocabulary;
  info.context = options.max_model_len > 0 ? options.max_model_len : dummy_context;
  info.kv_bytes_per_token = sizeof(int32_t);
  info.eos_tokens = {dummy_eos};
  plan.kv_block_tokens = options.kv_block_tokens;
  plan.kv_block_bytes = uint64_t{options.kv_block_tokens} * info.kv_bytes_per_token;
  // A token takes four bytes, so what the sequences could need is always there.
  auto blocks = kv_blocks_for(options, info.context, plan.kv_block_bytes, uint64_t{1} << 30);
  if (!blocks)
    return blocks.error();
  plan.kv_blocks = *blocks;
  plan.schedules_ahead = options.schedule_ahead == device_choice::on && options.shards == 1;
  const sequence_table::limits limits{.block_tokens = plan.kv_block_tokens,
                                      .blocks = plan.kv_blocks,
                                      .context = info.context,
                                      .vocabulary = info.vocabulary,
                                      .whole = options.shards == 1};
  for (uint32_t i = 0; i < options.shards; ++i)
    plan.stages.push_back(
        [i, stages = options.shards, limits,
         faults](const load_progress& progress) -> caf::expected<std::unique_ptr<stage>> {
          if (progress)
            progress(1, 1);
          return std::unique_ptr<stage>{std::make_unique<dummy_stage>(i, stages, limits, faults)};
        });
  return plan;
}

} // namespace troupe::models
