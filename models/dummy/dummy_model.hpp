#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "troupe/models/stage.hpp"

/// A model without weights. Scheduler, pages, activations and results are real, only the arithmetic
/// is free: the way to measure the runtime alone, and to provoke faults in tests.
namespace troupe::models {

/// Vocabulary of the byte tokenizer (models/tokenizer/byte_tokenizer.hpp), and its end-of-sequence
/// id.
inline constexpr uint32_t dummy_vocabulary = 259;
inline constexpr int32_t dummy_eos = 257;

/// Faults that a test orders, also while the model runs. Shared by all stages; any thread.
struct dummy_faults {
  /// Throws inside of `forward` on the stage of this index ...
  std::atomic<int32_t> throw_in_stage{-1};
  /// ... after so many more steps there (0: the next one), once.
  std::atomic<int64_t> throw_after_steps{0};
  /// Answers ec::device_lost on the stage of this index, after so many more steps there, once.
  std::atomic<int32_t> lose_stage{-1};
  std::atomic<int64_t> lose_after_steps{0};
  /// Every step on any stage that feeds this token throws: a poisoned request.
  std::atomic<int32_t> poison_token{-1};
  /// A row that feeds this token gets a row fault.
  std::atomic<int32_t> faulty_token{-1};
  /// Ends each sequence with `dummy_eos` when it has this many tokens, the prompt counted in; 0 =
  /// never.
  std::atomic<uint32_t> eos_at_length{0};
  /// Each stage sleeps so long in each step.
  std::atomic<int64_t> step_microseconds{0};
};

/// The dummy model: printable lower-case words, each token a function of the tokens before it, read
/// back from the stage's pages by way of the block table; so a block that is lost, shared wrongly
/// or stale changes the text. 4 layers, context 8192 (or max_model_len). Sampling parameters are
/// ignored.
/// @param faults May be null.
/// Errors: ec::bad_option.
caf::expected<model_plan> plan_dummy(const load_options& options,
                                     std::shared_ptr<dummy_faults> faults);

/// The token that the dummy model gives after these tokens: what a test expects.
int32_t dummy_next_token(std::span<const int32_t> history);

} // namespace troupe::models
