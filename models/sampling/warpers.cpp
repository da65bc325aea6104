#include "troupe/models/sampling/warpers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "troupe/models/sampling/decimal.hpp"

namespace troupe::models::sampling {

namespace {

constexpr float lowest_finite = std::numeric_limits<float>::lowest();
/// Rows up to this long are not thinned out beforehand: it would not pay.
constexpr size_t small_row = 1024;

bool cuts_top_k(const sampling_params& p, size_t vocabulary) {
  return p.top_k > 0 && static_cast<size_t>(p.top_k) < vocabulary;
}

bool is_fraction(float cutoff) {
  return cutoff > 0.0f && cutoff < 1.0f;
}

/// Removes the tokens at which `goes(i)` holds.
template <class Predicate>
void remove_if(kept_tokens& kept, Predicate goes) {
  size_t count = 0;
  for (size_t i = 0; i < kept.ids.size(); ++i) {
    const bool stays = !goes(i); // No branch: which tokens go is anyone's guess.
    kept.ids[count] = kept.ids[i];
    kept.scores[count] = kept.scores[i];
    kept.weights[count] = kept.weights[i];
    count += stays ? 1 : 0;
  }
  kept.ids.resize(count);
  kept.scores.resize(count);
  kept.weights.resize(count);
  kept.recount();
}

/// Makes weights of the scores.
void weigh(kept_tokens& kept, float highest) {
  kept.weights.resize(kept.scores.size());
  kept.block_sums.resize(blocks_of(kept.scores.size()));
  kept.total = kernels().exp_store(kept.scores.data(), kept.scores.size(), highest,
                                   kept.weights.data(), kept.block_sums.data());
  kept.left_out = 0;
}

/// The softmax of the kept tokens, in fp32 as torch has it.
void fill_probabilities(const kept_tokens& kept, std::vector<float>& probabilities) {
  const double scale = 1 / kept.total;
  probabilities.resize(kept.weights.size());
  for (size_t i = 0; i < probabilities.size(); ++i)
    probabilities[i] = static_cast<float>(kept.weights[i] * scale);
}

/// -sum p log p of the kept tokens, and their fp32 log-probabilities into `logs`.
float entropy(const kept_tokens& kept, float highest, std::vector<float>& logs) {
  const double shift = highest + std::log(kept.total);
  double sum = 0;
  logs.resize(kept.scores.size());
  for (size_t i = 0; i < logs.size(); ++i) {
    logs[i] = static_cast<float>(kept.scores[i] - shift);
    sum -= static_cast<double>(logs[i]) * kept.weights[i];
  }
  return static_cast<float>(sum / kept.total);
}

void keep_top_p(float top_p, warp_scratch& scratch, kept_tokens& kept) {
  fill_probabilities(kept, scratch.probabilities);
  running_mass rule;
  rule.base = kept.left_out / kept.total; // It lies below everything here.
  rule.limit = static_cast<float>(1.0 - decimal(top_p));
  const auto crossing = find_crossing(kept.scores, scratch.probabilities, rule, scratch.selection);
  // Not reached: only the last of the ascending order stays, the highest id among the best.
  uint32_t first = crossing;
  if (crossing == not_reached) {
    first = 0;
    for (uint32_t i = 1; i < kept.scores.size(); ++i)
      if (kept.scores[i] >= kept.scores[first])
        first = i;
  }
  const float bound = kept.scores[first];
  remove_if(kept, [&](size_t i) {
    return kept.scores[i] < bound || (kept.scores[i] == bound && i < first);
  });
}

void keep_min_p(float min_p, warp_scratch& scratch, kept_tokens& kept) {
  fill_probabilities(kept, scratch.probabilities);
  const auto& p = scratch.probabilities;
  const float bound = min_p * *std::max_element(p.begin(), p.end());
  remove_if(kept, [&](size_t i) { return p[i] < bound; });
}

/// Keeps the tokens whose surprise is closest to the expected one, up to `mass`. May remove the
/// best, hence new weights and a new `highest`.
void keep_typical(float mass, float& highest, warp_scratch& scratch, kept_tokens& kept) {
  auto& keys = scratch.keys;
  const float expected = entropy(kept, highest, keys);
  for (auto& key : keys)
    key = std::abs(-key - expected);
  fill_probabilities(kept, scratch.probabilities);
  running_mass rule;
  rule.limit = mass;
  rule.strict = false;
  const auto crossing = find_crossing(keys, scratch.probabilities, rule, scratch.selection);
  if (crossing == not_reached)
    return;
  const float bound = keys[crossing];
  remove_if(kept, [&](size_t i) { return keys[i] > bound; });
  highest = *std::max_element(kept.scores.begin(), kept.scores.end());
  weigh(kept, highest);
}

/// Removes tokens less probable than `cutoff`, but never the best.
void keep_above(float cutoff, float highest, warp_scratch& scratch, kept_tokens& kept) {
  fill_probabilities(kept, scratch.probabilities);
  const auto& p = scratch.probabilities;
  remove_if(kept, [&](size_t i) { return p[i] < cutoff && kept.scores[i] < highest; });
}

/// A score below which the first active filter removes every token for certain, with some slack for
/// rounding; it saves looking at tens of thousands of hopeless ones.
float hopeless_below(const sampling_params& p, size_t count, float highest, double total) {
  double share = 0; // of the whole mass
  if (p.top_p < 1.0f)
    share = (1.0 - decimal(p.top_p)) / static_cast<double>(count);
  else if (p.min_p > 0.0f)
    share = p.min_p / total;
  else if (p.typical_p < 1.0f)
    return lowest_finite;
  else if (is_fraction(p.epsilon_cutoff))
    share = p.epsilon_cutoff;
  if (!(share > 0))
    return lowest_finite;
  const double bound = highest + std::log(share * total) - 1e-3 - 1e-6 * std::abs(highest);
  return static_cast<float>(std::clamp(bound, double{lowest_finite}, double{highest}));
}

} // namespace

void kept_tokens::recount() {
  block_sums.resize(blocks_of(weights.size()));
  total = kernels().sum(weights.data(), weights.size(), block_sums.data());
  left_out = 0;
}

bool has_filters(const sampling_params& p, size_t vocabulary) {
  return cuts_top_k(p, vocabulary) || p.top_p < 1.0f || p.min_p > 0.0f || p.typical_p < 1.0f ||
         is_fraction(p.epsilon_cutoff) || is_fraction(p.eta_cutoff);
}

void keep_likely(const sampling_params& p, const row_view& row, float highest,
                 warp_scratch& scratch, kept_tokens& kept) {
  const size_t count = row.values.size();
  double total = 0; // of all tokens, when some are left out beforehand
  float bound = lowest_finite;
  if (cuts_top_k(p, count)) {
    bound = std::max(bound, kth_largest(row, static_cast<size_t>(p.top_k), scratch.selection));
  } else if (count > small_row) {
    total = kernels().exp_sum(row.values.data(), count, highest);
    bound = hopeless_below(p, count, highest, total);
  }
  collect_at_least(row, bound, kept.ids);
  kept.scores.resize(kept.ids.size());
  for (size_t i = 0; i < kept.ids.size(); ++i)
    kept.scores[i] = row.values[kept.ids[i]];
  weigh(kept, highest);
  if (kept.total < total) {
    kept.left_out = total - kept.total;
    kept.total = total;
  }
  if (p.top_p < 1.0f)
    keep_top_p(p.top_p, scratch, kept);
  if (p.min_p > 0.0f)
    keep_min_p(p.min_p, scratch, kept);
  if (p.typical_p < 1.0f)
    keep_typical(p.typical_p, highest, scratch, kept);
  if (is_fraction(p.epsilon_cutoff))
    keep_above(p.epsilon_cutoff, highest, scratch, kept);
  if (is_fraction(p.eta_cutoff)) {
    const float expected = entropy(kept, highest, scratch.keys);
    keep_above(std::min(p.eta_cutoff, std::sqrt(p.eta_cutoff) * std::exp(-expected)), highest,
               scratch, kept);
  }
}

} // namespace troupe::models::sampling
