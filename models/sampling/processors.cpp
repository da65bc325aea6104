#include "troupe/models/sampling/processors.hpp"

#include <algorithm>
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

/// Bans each token that would complete an n-gram which the history already holds.
void no_repeat_ngram(std::span<const int32_t> history, size_t size, std::span<float> scores) {
  if (size == 0 || history.size() < size)
    return;
  const auto prefix = history.last(size - 1);
  for (size_t start = 0; start + size <= history.size(); ++start)
    if (std::equal(prefix.begin(), prefix.end(), history.begin() + static_cast<ptrdiff_t>(start)))
      mask(scores, history[start + size - 1]);
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

bool counts_tokens(const sampling_params& p) {
  return p.encoder_repetition_penalty != 1.0f || p.repetition_penalty != 1.0f ||
         p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
}

} // namespace

bool needs_history(const sampling_params& p) {
  return counts_tokens(p) || p.no_repeat_ngram_size > 0 || !p.bad_words.empty() ||
         (!p.eos_tokens.empty() && (p.min_length > 0 || p.min_new_tokens > 0));
}

bool has_processors(const sampling_params& p) {
  return needs_history(p) || !p.logit_bias.empty() || !p.suppress_tokens.empty();
}

void apply_processors(const sequence_sampler& sampler, std::span<float> scores) {
  const auto& p = sampler.params();
  const auto history = sampler.history();
  for (const auto& [token, value] : p.logit_bias)
    if (auto* score = score_of(scores, token))
      *score += value;
  repetition_penalties(sampler, scores);
  no_repeat_ngram(history, p.no_repeat_ngram_size, scores);
  bad_words(sampler, scores);
  const size_t generated =
      history.size() - std::min<size_t>(history.size(), sampler.prompt_length());
  if (history.size() < p.min_length || generated < p.min_new_tokens)
    for (const auto token : p.eos_tokens)
      mask(scores, token);
  for (const auto token : p.suppress_tokens)
    mask(scores, token);
}

} // namespace troupe::models::sampling
