#pragma once

#include <array>
#include <cstdint>

#include "troupe/actors/scheduling/limits.hpp"

namespace troupe::scheduling {

/// Decides how many prompt tokens may join a step beside its decode rows, from what steps have
/// cost so far. It has no clock: times come in with the results.
///
/// With nothing to decode prompts take the whole budget. Else a step may take `stretch` times what
/// its decode rows alone take; how many prompt tokens fit into the difference follows from the
/// measured price of one. The difference grows with the number of waiting prompts per decode row,
/// since then more streams gain than lose, and a burst of short prompts takes the whole budget.
class prefill_share {
public:
  explicit prefill_share(const prefill_limits& limits) : limits_(limits) {}

  /// What stands before the next step.
  struct demand {
    uint32_t decode_rows = 0;   ///< In this step.
    uint32_t streams = 0;       ///< Decoding in all, those in other steps included.
    uint32_t prompts = 0;       ///< Waiting for their first token, with a slot in reach.
    uint64_t prompt_tokens = 0; ///< Of those, not computed yet.
    uint32_t depth = 1;         ///< Steps in flight at a time.
    uint64_t burst_tokens = 0;  ///< prompt_tokens and those issued since no prompt waited.
  };

  /// Prompt tokens that may go into the step, without regard to the token budget.
  uint32_t tokens(const demand& d) const;

  /// A step with so many decode rows and prompt tokens took so long.
  void learn(uint32_t decode_rows, uint32_t prompt_tokens, uint64_t ns);

  /// The expected time (ns) of a step with that many decode rows and nothing else; 0 = unknown.
  double decode_time(uint32_t rows) const;
  /// The expected time (ns) that one prompt token adds; 0 = unknown.
  double token_time() const { return token_ns_; }

private:
  prefill_limits limits_;
  std::array<double, 33> decode_ns_{}; ///< By bit width of the row count; 0 = not seen.
  double token_ns_ = 0;
};

} // namespace troupe::scheduling
