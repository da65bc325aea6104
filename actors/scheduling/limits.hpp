#pragma once

#include <cstdint>
#include <functional>

namespace troupe::scheduling {

/// How prompts share steps with running streams. See prefill_share.
struct prefill_limits {
  /// A step may take so many times what its decode rows alone take. Below the factor two that
  /// streams are promised, because predictions are noisy.
  double stretch = 1.7;
  /// Steps this short (ns) disturb nobody, whatever the ratio.
  uint64_t unnoticed_ns = 2'000'000;
  /// The smallest chunk that a waiting prompt gets into a step, so that it always gets on.
  uint32_t min_chunk = 8;
  /// Chunk while decode rows run and nothing was measured yet.
  uint32_t first_chunk = 32;
  /// Waiting prompts count as a burst when there are at least this many per decode row...
  double burst_share = 0.25;
  /// ...and they are no longer than this on average (tokens). A burst gets the whole budget: held
  /// back, it would keep the batch small for much longer than it stalls it.
  uint32_t burst_prompt = 512;
  /// With several shards and nothing to decode, prompts are cut so that all shards have work, but
  /// not finer than this.
  uint32_t pipeline_chunk = 64;
  /// What a step costs a shard beyond its tokens, in tokens' time. Larger chunks pay it less often,
  /// smaller ones fill the pipeline sooner.
  double step_overhead_tokens = 16;
};

/// Where preempted sequences may leave their KV.
struct swap_limits {
  uint32_t host_blocks = 0; ///< KV blocks that host memory may hold; 0: all is computed again.
  /// What it takes (ns) to move a block to the host, or back; 0 = not known yet. May be null.
  std::function<double()> block_ns;
};

/// What bounds a scheduler's decisions.
struct batching_limits {
  uint32_t max_step_tokens = 512; ///< Tokens in one step; stages size their scratch for it.
  uint32_t max_sequences = 32;    ///< Slots: sequences that hold KV blocks at a time.
  uint32_t max_waiting = 1000;    ///< Sequences beyond the slots; more are refused.
  uint32_t blocks = 0;            ///< KV blocks on every stage.
  uint32_t block_tokens = 16;     ///< Positions per KV block.
  /// A sequence's next row may be scheduled while the one before it is in flight, feeding the token
  /// that that one draws (`pending_token`). For one shard; the pipeline then holds a step more.
  bool ahead = false;
  /// Steps in flight at a time; 0: as many as there are shards, one more where `ahead`.
  uint32_t steps_in_flight = 0;
  bool prefix_cache = true; ///< Full blocks stay for later sequences with the same beginning.
  /// Sequence ids follow this one. Ids must not come again while a shard may remember them, so a
  /// scheduler that takes another's place goes on elsewhere.
  uint64_t last_sequence = 0;
  prefill_limits prefill;
  swap_limits swap;
};

} // namespace troupe::scheduling
