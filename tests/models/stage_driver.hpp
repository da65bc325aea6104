#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "troupe/models/stage.hpp"

namespace troupe::test {

/// What a test asks of a model.
struct generation {
  std::vector<int32_t> prompt;
  uint32_t new_tokens = 0;
  bool prompt_logprobs = false;
  uint16_t top_n = 0;
  bool hidden_state = false;
  double rope_base = 0;
  sampling_params sampling;
};

/// What came back.
struct generated {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<token_value> prompt;
  std::vector<std::vector<token_value>> prompt_top;
  std::vector<float> hidden; ///< Of the last step.
  std::string fault;

  /// Equal to the bit: tokens, log-probabilities and hidden state.
  friend bool operator==(const generated&, const generated&) = default;
};

/// Plays scheduler for the stages of one model on the calling thread, in the simplest way: every
/// unfinished sequence has a row in every step, prompts are cut into chunks.
class stage_driver {
public:
  /// Plans and loads; throws std::runtime_error with the error's text.
  explicit stage_driver(const models::load_options& options);
  explicit stage_driver(models::model_plan plan);

  struct manner {
    uint32_t chunk = 512;       ///< Prompt tokens of one row.
    uint32_t step_tokens = 512; ///< Prompt tokens of one step.
    bool shuffle_blocks = false;
    /// After each so many steps all sequences are preempted, each twice at most: their blocks are
    /// given to others, prompt and answer are computed again. 0 = never.
    uint32_t preempt_every = 0;
  };

  /// Runs all generations side by side.
  std::vector<generated> run(const std::vector<generation>& all, const manner& how);
  std::vector<generated> run(const std::vector<generation>& all) { return run(all, manner{}); }
  generated run_alone(const generation& one, const manner& how) { return run({one}, how).front(); }
  generated run_alone(const generation& one) { return run_alone(one, manner{}); }

  /// Sends one step through all stages.
  caf::expected<step_result> forward(const step& s);

  const models::model_plan& plan() const { return plan_; }
  models::stage& stage(size_t i) { return *stages_[i]; }
  uint64_t next_id() { return next_id_++; }

private:
  struct running;
  void add_row(step& s, running& r, size_t tokens);
  void give_blocks(step& s, step_row& row, running& r);
  void preempt(std::vector<running>& all);

  models::model_plan plan_;
  std::vector<std::unique_ptr<models::stage>> stages_;
  std::vector<uint32_t> free_blocks_;
  uint64_t next_id_ = 1;
  uint64_t next_step_ = 1;
};

} // namespace troupe::test
