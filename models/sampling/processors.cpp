#include "troupe/models/sampling/processors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "troupe/models/sampling/decimal.hpp"

namespace troupe::models::sampling {

namespace {

constexpr float masked = -std::numeric_limits<float>::infinity();

/// The score of `token`, or null when the vocabulary has no such token.
float* score_of(std::span<float> scores, int32_t token) {
  const auto index = static_cast<size_t>(token);
  return token >= 0 && index < scores.size() ? &scores[index] : nullptr;
}

void mask(std::span<float> scores, int32_t token) {
  if (auto* score = score_of(scores, token))
    *score = masked;
}

void penalize(float& score, float penalty) {
  score = score < 0 ? score * penalty : score / penalty;
}

void repetition_penalties(const sequence_sampler& sampler, std::span<float> scores) {
  const auto& p = sampler.params();
  // transformers divides in double before it goes to fp32.
  const auto prompt_penalty = static_cast<float>(1.0 / decimal(p.encoder_repetition_penalty));
  for (const auto& seen : sampler.occurrences()) {
    auto* score = score_of(scores, seen.token);
    if (score == nullptr)
      continue;
    if (p.encoder_repetition_penalty != 1.0f && seen.in_prompt > 0)
      penalize(*score, prompt_penalty);
    if (p.repetition_penalty != 1.0f)
      penalize(*score, p.repetition_penalty);
    if (seen.in_output > 0)
      *score -= p.frequency_penalty * static_cast<float>(seen.in_output) + p.presence_penalty;
  }
}

/// Bans each token that would complete an n-gram which `known` (the history, or the prompt alone)
/// already holds.
void no_repeat_ngram(std::span<const int32_t> known, std::span<const int32_t> history, size_t size,
                     std::span<float> scores) {
  if (size == 0 || known.size() < size || history.size() + 1 < size)
    return;
  const auto prefix = history.last(size - 1);
  for (size_t start = 0; start + size <= known.size(); ++start)
    if (std::equal(prefix.begin(), prefix.end(), known.begin() + static_cast<ptrdiff_t>(start)))
      mask(scores, known[start + size - 1]);
}

void bad_words(const sequence_sampler& sampler, std::span<float> scores) {
  const auto history = sampler.history();
  const auto& eos = sampler.params().eos_tokens;
  for (const auto& word : sampler.params().bad_words) {
    // Like transformers: ending cannot be forbidden this way, and a word longer than the history is
    // not looked at, even where all but its last token could match.
    if (word.empty() || (word.size() > 1 && word.size() > history.size()))
      continue;
    if (word.size() == 1 && std::find(eos.begin(), eos.end(), word[0]) != eos.end())
      continue;
    const auto tail = history.last(word.size() - 1);
    if (std::equal(tail.begin(), tail.end(), word.begin()))
      mask(scores, word.back());
  }
}

/// Leaves nothing but `tokens`, all alike. Without one in the vocabulary nothing is forced.
void force(std::span<const int32_t> tokens, std::span<float> scores) {
  if (std::none_of(tokens.begin(), tokens.end(),
                   [&](int32_t token) { return score_of(scores, token) != nullptr; }))
    return;
  std::fill(scores.begin(), scores.end(), masked);
  for (const auto token : tokens)
    if (auto* score = score_of(scores, token))
      *score = 0;
}

void force_ends(const sampling_params& p, size_t length, std::span<float> scores) {
  if (length == 1 && p.forced_bos_token >= 0)
    force({&p.forced_bos_token, 1}, scores);
  if (p.max_length > 0 && length + 1 == p.max_length)
    force(p.forced_eos_tokens, scores);
}

/// Lifts eos further with each token beyond `decay_start`.
void decay_length(const sampling_params& p, size_t generated, std::span<float> scores) {
  if (p.decay_factor == 1.0f || generated <= p.decay_start)
    return;
  const auto steps = static_cast<double>(generated - p.decay_start);
  const auto lift = static_cast<float>(std::pow(decimal(p.decay_factor), steps) - 1);
  for (const auto token : p.eos_tokens)
    if (auto* score = score_of(scores, token); score != nullptr && std::isfinite(*score))
      *score = std::clamp(*score + std::abs(*score) * lift, std::numeric_limits<float>::lowest(),
                          std::numeric_limits<float>::max());
}

bool counts_tokens(const sampling_params& p) {
  return p.encoder_repetition_penalty != 1.0f || p.repetition_penalty != 1.0f ||
         p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
}

bool moves_eos(const sampling_params& p) {
  return !p.eos_tokens.empty() &&
         (p.min_length > 0 || p.min_new_tokens > 0 || p.decay_factor != 1.0f);
}

} // namespace

bool needs_history(const sampling_params& p) {
  return counts_tokens(p) || p.no_repeat_ngram_size > 0 || p.encoder_no_repeat_ngram_size > 0 ||
         !p.bad_words.empty() || moves_eos(p) || !p.begin_suppress_tokens.empty() ||
         p.forced_bos_token >= 0 || !p.forced_eos_tokens.empty();
}

bool has_processors(const sampling_params& p) {
  return needs_history(p) || !p.logit_bias.empty() || !p.suppress_tokens.empty();
}

void apply_processors(const sequence_sampler& sampler, std::span<float> scores) {
  const auto& p = sampler.params();
  const auto history = sampler.history();
  const auto prompt = history.first(std::min<size_t>(history.size(), sampler.prompt_length()));
  const size_t generated = history.size() - prompt.size();
  for (const auto& [token, value] : p.logit_bias)
    if (auto* score = score_of(scores, token))
      *score += value;
  repetition_penalties(sampler, scores);
  no_repeat_ngram(history, history, p.no_repeat_ngram_size, scores);
  no_repeat_ngram(prompt, history, p.encoder_no_repeat_ngram_size, scores);
  bad_words(sampler, scores);
  if (history.size() < p.min_length || generated < p.min_new_tokens)
    for (const auto token : p.eos_tokens)
      mask(scores, token);
  force_ends(p, history.size(), scores);
  decay_length(p, generated, scores);
  for (const auto token : p.suppress_tokens)
    mask(scores, token);
  // A forced bos comes before what counts as the beginning.
  const bool after_bos = prompt.size() <= 1 && p.forced_bos_token >= 0;
  if (generated == (after_bos ? 1u : 0u))
    for (const auto token : p.begin_suppress_tokens)
      mask(scores, token);
}

} // namespace troupe::models::sampling
