#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/actors/scheduling/search_params.hpp"
#include "troupe/actors/scheduling/search_watch.hpp"
#include "troupe/models/step.hpp"

/// What goes into a scheduler and what comes out of it: plain values, which the policy and the
/// actors share.
namespace troupe {

/// A sequence as its request hands it to the scheduler.
struct new_sequence {
  std::vector<int32_t> prompt;
  /// So many tokens at the end of `prompt` were drawn already, by a copy of the model that is lost.
  uint32_t generated = 0;
  uint32_t max_new_tokens = 1; ///< >= 1, those counted in; prompt + this never exceeds the context.
  sampling_params sampling;
  search_params search;   ///< Several continuations at a time; `sampling` processes all of them.
  search_watch_ref watch; ///< Of beams.
  std::vector<int32_t>
      stop_tokens; ///< Ends the sequence after one of these (eos ones too unless ignored).
  row_wants wants; ///< What each sampled token is to carry; prompt_logprobs included.
  int32_t priority = 3;
  uint64_t turn = 0;      ///< Order among equal priorities; equal turns by arrival.
  std::string cache_salt; ///< Separates prefix-cache entries that must not be shared.
  double rope_base = 0;
  uint32_t slot_timeout_ms = 0; ///< 0 = waits as long as it takes.
  bool needs_host = false; ///< Each token goes through the host before the next can be computed.
};

/// Tokens of one sequence, in order. More than one only when they became known together.
struct token_batch {
  sequence_id sequence{};
  std::vector<row_result>
      tokens; ///< Each with a drawn token; the first may carry prompt log-probabilities.
  uint32_t cached_tokens = 0; ///< Set with the first: prompt tokens taken from the prefix cache.
  uint32_t waited_us = 0;     ///< Set with the first: time until its first step began.
  /// Which of the sequence's outputs they belong to; 0 unless beams return several. Outputs come
  /// whole, the best first.
  uint32_t output = 0;
};

/// A finished beam.
struct sequence_output {
  std::vector<row_result> tokens; ///< Each with its token, log-probability and alternatives.
  double score = 0;               ///< What it was ranked by.
};

/// Why a sequence ended without an error.
enum class sequence_end : uint8_t {
  length,
  stop_token,
  finished, ///< Its receiver asked for it.
};

/// Numbers the engine's status routes and the tests read.
struct scheduler_load {
  uint32_t waiting = 0;
  uint32_t running = 0;
  uint32_t parked = 0;
  uint32_t steps_in_flight = 0;
  uint32_t blocks_total = 0;
  uint32_t blocks_used = 0;   ///< Referenced by a live sequence.
  uint32_t blocks_cached = 0; ///< Unreferenced, kept for the prefix cache.
  uint32_t blocks_shared = 0; ///< Referenced by more than one sequence.
};

} // namespace troupe
