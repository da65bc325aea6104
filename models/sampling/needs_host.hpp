#pragma once

#include "troupe/models/step.hpp"

namespace troupe::models {

/// What sampling on a device can take in.
inline constexpr uint16_t device_top_n = 64;
inline constexpr size_t device_eos_tokens = 8;

/// Whether the token of such a row can be chosen on the host only. A device does greedy choice,
/// temperature, top_k, top_p, min_p, repetition, frequency and presence penalties and masked ends;
/// n-grams, biases, word lists, typical_p, the cut-offs, forced tokens and beams need the host.
bool needs_host(const sampling_params& params, const row_wants& wants);

} // namespace troupe::models
