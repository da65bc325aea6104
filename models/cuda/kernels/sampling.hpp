#pragma once

#include "troupe/models/cuda/kernels/kernels.hpp"

/// Choosing tokens on the device. What models/sampling/sampler.hpp says of the numbers holds here
/// too: greedy takes the lowest id among equals, a draw is one inverse CDF over the kept tokens in
/// the order of their ids with the same Philox number, and log-probabilities are those of the raw
/// logits. Sums are taken in another order than on the CPU and scores are multiplied by
/// 1 / temperature, so that a draw can differ where the number falls within rounding of a border.
namespace troupe::models::cuda {

inline constexpr uint32_t max_slot_eos = 8;
inline constexpr uint32_t max_top = 64;

/// Sampling of one sequence, kept by slot in device memory; written when the sequence starts.
/// Fields as in troupe::sampling_params.
struct slot_sampling {
  uint64_t seed = 0;
  uint32_t sequence_index = 0;
  uint32_t sample = 0; ///< 0: greedy; temperature, top_k, top_p and min_p are then not looked at.
  float temperature = 1;
  int32_t top_k = 0;
  float top_p_cut = 0; ///< fp32 of 1 - top_p (computed in fp64 from the decimal); <= 0: off.
  float min_p = 0;
  float repetition_penalty = 1;
  float prompt_penalty = 1; ///< fp32 of 1 / encoder_repetition_penalty.
  float frequency_penalty = 0;
  float presence_penalty = 0;
  /// Row of `counts` that belongs to this sequence; UINT32_MAX: no penalty is set.
  uint32_t counts_row = UINT32_MAX;
  /// Tokens of `eos` are masked while the drawn position is below this (min_length and
  /// min_new_tokens).
  uint32_t eos_from = 0;
  uint32_t eos_count = 0;
  int32_t eos[max_slot_eos] = {};
};

/// What one position asks for.
struct draw_request {
  uint32_t row = no_row; ///< Of the step; its slot gives parameters. no_row: skipped.
  uint32_t position = 0; ///< Of the token that is drawn, where positions are known to the host.
  int32_t target = -1;   ///< >= 0: nothing is drawn, the log-probability of this token is wanted.
  uint32_t top_n = 0;    ///< At most max_top.
};

enum class draw_fault : uint32_t { none, infinite, no_finite, nan, overflow, all_masked };

/// What one position gives.
struct draw_result {
  int32_t token = -1;
  float logprob = 0; ///< Of `token`, finite and <= 0.
  draw_fault fault = draw_fault::none;
  uint32_t top_count = 0;
};

struct top_entry {
  int32_t token = -1;
  float logprob = 0;
};

struct sample_call {
  matrix logits;                          ///< fp32 [positions, V]; left as it is.
  const draw_request* requests = nullptr; ///< [positions] in device memory.
  /// Take the position of the drawn token from the step's arrays (its last position + 1) rather
  /// than from the requests.
  bool positions_from_step = true;
  const slot_sampling* slots = nullptr; ///< By slot.
  uint32_t* counts = nullptr;           ///< [count rows, V]; null where no slot has penalties.
  int32_t* latest = nullptr;            ///< By slot: receives the drawn token.
  draw_result* results = nullptr;       ///< [positions]; device or mapped pinned memory.
  top_entry* top = nullptr;             ///< [positions, max_top], or null where nobody asks.
  /// Every request is greedy without penalties or masked ends and wants no top: the short path.
  bool plain_greedy = false;
  void* workspace = nullptr; ///< sample_workspace_bytes(), counters zero before the first use.
};

size_t sample_workspace_bytes(uint32_t positions, uint32_t vocabulary);

/// Draws for all positions; counts[token] of the drawn token goes up where penalties are on. Top
/// entries are sorted descending, ties by id, without the drawn token where it is not among them.
cudaError_t sample(const launcher& on, const step_arrays& step, const sample_call& call);

/// A word of `counts`: how often the answer holds the token, and whether the prompt does.
inline constexpr uint32_t in_prompt_bit = 0x80000000u;

/// Clears a row of counts and counts a history in it.
/// @param history [length] in device memory; [0, prompt_length) is the prompt.
cudaError_t count_history(const launcher& on, const int32_t* history, uint32_t length,
                          uint32_t prompt_length, uint32_t* row, uint32_t vocabulary);

} // namespace troupe::models::cuda
