#pragma once

#include <span>

#include "troupe/models/sampling/sampler.hpp"

/// What changes scores whether or not a token is drawn at random: bias, penalties and masks.
/// Internal to models/sampling.
namespace troupe::models::sampling {

/// Whether `apply_processors` would change anything; when not, the raw logits need no copy.
bool has_processors(const sampling_params& params);

/// Whether one of them looks at the history, which must then be complete.
bool needs_history(const sampling_params& params);

/// Applies, in this order: logit bias, encoder repetition penalty (prompt tokens), repetition
/// penalty (all tokens), frequency and presence penalty (generated tokens), no-repeat n-gram,
/// encoder no-repeat n-gram, bad words, min_length, min_new_tokens, forced bos, forced eos,
/// exponential decay of the length, suppressed tokens, tokens suppressed at the beginning. Masked
/// scores become -inf. Ids outside of the vocabulary are passed over.
/// @param scores [vocabulary], changed in place.
/// Source: transformers 5.17, generation/logits_process.py; frequency and presence as in OpenAI's
/// API.
void apply_processors(const sequence_sampler& sampler, std::span<float> scores);

} // namespace troupe::models::sampling
