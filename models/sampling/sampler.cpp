#include "troupe/models/sampling/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <tuple>

#include "troupe/models/sampling/philox.hpp"
#include "troupe/models/sampling/processors.hpp"
#include "troupe/models/sampling/row_kernels.hpp"
#include "troupe/models/sampling/selection.hpp"
#include "troupe/models/sampling/warpers.hpp"

namespace troupe::models {

namespace {

using namespace sampling;

/// Buffers of one thread; they grow to the vocabulary and stay.
struct row_scratch {
  std::vector<float> raw_max;
  std::vector<float>
      scores; ///< After log_softmax, processors, temperature: what differs from the raw row.
  std::vector<float> scores_max;
  std::vector<float> weights;
  std::vector<double> block_sums;
  std::vector<uint32_t> found;
  kept_tokens kept;
  warp_scratch warp;
};

row_scratch& scratch() {
  thread_local row_scratch buffers;
  return buffers;
}

/// A problem of this row alone; empty means none.
using complaint = std::string_view;

/// The raw row, looked through once: maxima and the normalizer of its softmax.
struct raw_row {
  row_view view;
  float highest = 0;
  uint32_t best = 0;
  double log_total = 0; ///< ln sum exp(x - highest)

  /// ln of the softmax, finite.
  float logprob(uint32_t token) const {
    const double value = static_cast<double>(view.values[token]) - highest - log_total;
    return static_cast<float>(std::clamp(value, double{std::numeric_limits<float>::lowest()}, 0.0));
  }
};

complaint look_through(std::span<const float> logits, row_scratch& s, raw_row& raw) {
  if (logits.empty())
    return "the row has no logits";
  s.raw_max.resize(blocks_of(logits.size()));
  kernels().block_max(logits.data(), logits.size(), s.raw_max.data());
  raw.view = {logits, s.raw_max};
  raw.highest = *std::max_element(s.raw_max.begin(), s.raw_max.end());
  if (!std::isfinite(raw.highest))
    return raw.highest > 0 ? "the logits hold +Inf" : "the logits hold no finite number";
  raw.log_total = std::log(kernels().exp_sum(logits.data(), logits.size(), raw.highest));
  if (std::isnan(raw.log_total))
    return "the logits hold NaN";
  raw.best = raw.view.top().second;
  return {};
}

/// The row after processors and temperature: the raw one itself when nothing changes it.
struct scored_row {
  row_view view;
  float highest = 0;
  uint32_t best = 0;
};

/// @param normalized Start from log_softmax, as beam search does, rather than from the raw logits.
complaint score(const raw_row& raw, const sequence_sampler& sampler, uint32_t position,
                bool normalized, row_scratch& s, scored_row& row) {
  const auto& p = sampler.params();
  const bool processed = has_processors(p);
  const bool tempered = p.sample && p.temperature != 1.0f;
  row = {raw.view, raw.highest, raw.best};
  if (!processed && !tempered && !normalized)
    return {};
  if (processed && (sampler.has_gap() || sampler.history().size() != position) && needs_history(p))
    return "the sequence's known tokens do not reach the position that is drawn";
  if (tempered && !(p.temperature > 0 && std::isfinite(p.temperature)))
    return "temperature must be a positive number when sampling";
  const size_t count = raw.view.values.size();
  const float* from = raw.view.values.data();
  s.scores.resize(count);
  s.scores_max.resize(blocks_of(count));
  if (normalized || processed) {
    const auto shift = static_cast<float>(raw.highest + raw.log_total);
    for (size_t i = 0; i < count; ++i)
      s.scores[i] = normalized ? from[i] - shift : from[i];
    if (processed)
      apply_processors(sampler, s.scores);
    from = s.scores.data();
  }
  if (tempered)
    kernels().divide(from, count, p.temperature, s.scores.data(), s.scores_max.data());
  else
    kernels().block_max(from, count, s.scores_max.data());
  row.view = {s.scores, s.scores_max};
  std::tie(row.highest, row.best) = row.view.top();
  if (!std::isfinite(row.highest))
    return row.highest > 0 ? "a score overflowed: temperature or a penalty is too small"
                           : "every token is masked: relax bad_words, suppress_tokens, "
                             "no_repeat_ngram_size or the minimum length";
  return {};
}

/// Inverse CDF: the index at which the running sum of weights passes u * total, first by blocks,
/// then within one. Rounding may let a sum end short of it: then the last index of positive weight.
size_t pick(std::span<const float> weights, std::span<const double> block_sums, double total,
            double u) {
  const double target = u * total;
  double before = 0; // Sum of the blocks before `block`.
  size_t block = 0;
  for (size_t b = 0; b < block_sums.size(); ++b) {
    if (block_sums[b] <= 0)
      continue;
    if (b > block)
      before += block_sums[block];
    block = b;
    if (before + block_sums[b] > target)
      break;
  }
  const size_t first = block * row_block, end = std::min(first + row_block, weights.size());
  size_t picked = first;
  for (size_t i = first; i < end; ++i) {
    if (weights[i] <= 0)
      continue;
    picked = i;
    before += weights[i];
    if (before > target)
      break;
  }
  return picked;
}

uint32_t choose(const sampling_params& p, const scored_row& row, uint32_t position,
                row_scratch& s) {
  if (!p.sample)
    return row.best;
  const double u = philox_uniform(p.seed, p.sequence_index, position);
  const auto scores = row.view.values;
  if (!has_filters(p, scores.size())) {
    s.weights.resize(scores.size());
    s.block_sums.resize(blocks_of(scores.size()));
    const double total = kernels().exp_store(scores.data(), scores.size(), row.highest,
                                             s.weights.data(), s.block_sums.data());
    return static_cast<uint32_t>(pick(s.weights, s.block_sums, total, u));
  }
  keep_likely(p, row.view, row.highest, s.warp, s.kept);
  return s.kept.ids[pick(s.kept.weights, s.kept.block_sums, s.kept.total, u)];
}

void fill_top(const raw_row& raw, size_t count, row_scratch& s, std::vector<token_value>& top) {
  largest(raw.view, count, s.warp.selection, s.found);
  top.reserve(s.found.size() + 1);
  for (const auto token : s.found)
    top.push_back({static_cast<int32_t>(token), raw.logprob(token)});
}

void add_if_absent(std::vector<token_value>& top, token_value chosen) {
  if (std::none_of(top.begin(), top.end(),
                   [&](const token_value& t) { return t.token == chosen.token; }))
    top.push_back(chosen);
}

/// Tells rows of one request and position apart, whatever order they are computed in: no two beams
/// have the same tokens behind them.
uint32_t fold_output(const sequence_sampler& sampler) {
  uint64_t h = 0x9e3779b97f4a7c15u;
  for (const auto token : sampler.history().subspan(
           std::min<size_t>(sampler.prompt_length(), sampler.history().size())))
    h = (h ^ static_cast<uint32_t>(token)) * 0xff51afd7ed558ccdu;
  return static_cast<uint32_t>(h >> 32);
}

/// ln sum exp(score). @param highest The greatest of them.
float log_total(std::span<const float> scores, float highest) {
  return static_cast<float>(highest +
                            std::log(kernels().exp_sum(scores.data(), scores.size(), highest)));
}

/// The tokens of the highest score + Gumbel noise, which is a draw without replacement.
void draw_candidates(const sequence_sampler& sampler, const scored_row& row, size_t count,
                     uint32_t position, row_scratch& s, row_result& result) {
  const auto& p = sampler.params();
  keep_likely(p, row.view, row.highest, s.warp, s.kept);
  struct drawn {
    float key;
    token_value what;
  };
  std::vector<drawn> all;
  all.reserve(s.kept.ids.size());
  const auto branch = fold_output(sampler);
  const auto shift = p.renormalize ? log_total(s.kept.scores, row.highest) : 0.0f;
  for (size_t i = 0; i < s.kept.ids.size(); ++i) {
    const auto token = s.kept.ids[i];
    const double u = philox_uniform(p.seed, p.sequence_index, position, branch, token + 1);
    // Halfway between the numbers that `u` can be: never 0, never 1.
    const double noise = -std::log(-std::log(u + 0x1p-54));
    const auto score = s.kept.scores[i] - shift;
    all.push_back({static_cast<float>(score + noise), {static_cast<int32_t>(token), score}});
  }
  count = std::min(count, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(count), all.end(),
                    [](const drawn& a, const drawn& b) {
                      return a.key != b.key ? a.key > b.key : a.what.token < b.what.token;
                    });
  for (size_t i = 0; i < count; ++i) {
    result.candidates.push_back(all[i].what);
    result.candidate_keys.push_back(all[i].key);
  }
}

void fill_candidates(const sequence_sampler& sampler, const raw_row& raw, const scored_row& row,
                     const row_wants& wants, uint32_t position, row_scratch& s,
                     row_result& result) {
  const bool probabilities = wants.scores == candidate_scores::probabilities;
  if (sampler.params().sample && !probabilities) {
    draw_candidates(sampler, row, wants.candidates, position, s, result);
  } else {
    const auto& values = row.view.values;
    const bool shifted = probabilities || sampler.params().renormalize;
    const auto shift = shifted ? log_total(values, row.highest) : 0.0f;
    largest(row.view, wants.candidates, s.warp.selection, s.found);
    for (const auto token : s.found) {
      const auto score = values[token] - shift;
      if (std::isfinite(score))
        result.candidates.push_back(
            {static_cast<int32_t>(token), probabilities ? std::exp(score) : score});
    }
  }
  result.candidate_logprobs.reserve(result.candidates.size());
  for (const auto& candidate : result.candidates)
    result.candidate_logprobs.push_back(raw.logprob(static_cast<uint32_t>(candidate.token)));
}

void fail(row_result& result, uint32_t position, complaint why) {
  result.fault = ec::row_fault;
  result.fault_text =
      "no token can be chosen at position " + std::to_string(position) + ": " + std::string{why};
}

} // namespace

row_result sample_row(std::span<const float> logits, const sequence_sampler& sampler,
                      const row_wants& wants, uint32_t position) {
  auto& s = scratch();
  row_result result;
  result.sequence = sampler.id();
  raw_row raw;
  if (const auto why = look_through(logits, s, raw); !why.empty()) {
    fail(result, position, why);
    return result;
  }
  if (wants.sample || wants.candidates > 0) {
    scored_row row;
    const bool beams = wants.candidates > 0 && wants.scores == candidate_scores::beams;
    if (const auto why = score(raw, sampler, position, beams, s, row); !why.empty()) {
      fail(result, position, why);
      return result;
    }
    if (wants.candidates > 0) {
      fill_candidates(sampler, raw, row, wants, position, s, result);
    } else {
      const auto token = choose(sampler.params(), row, position, s);
      result.token = static_cast<int32_t>(token);
      result.logprob = raw.logprob(token);
    }
  }
  if (wants.top_n > 0) {
    fill_top(raw, wants.top_n, s, result.top);
    if (result.token >= 0)
      add_if_absent(result.top, {result.token, result.logprob});
  }
  return result;
}

void take_drawn(row_result&& drawn, row_result& into) {
  into.token = drawn.token;
  into.logprob = drawn.logprob;
  into.top = std::move(drawn.top);
  into.candidates = std::move(drawn.candidates);
  into.candidate_logprobs = std::move(drawn.candidate_logprobs);
  into.candidate_keys = std::move(drawn.candidate_keys);
  into.fault = drawn.fault;
  into.fault_text = std::move(drawn.fault_text);
}

void add_prompt_logprob(std::span<const float> logits, int32_t target, uint16_t top_n,
                        row_result& into) {
  auto& s = scratch();
  raw_row raw;
  complaint why = look_through(logits, s, raw);
  if (why.empty() && (target < 0 || static_cast<size_t>(target) >= logits.size()))
    why = "the prompt holds an id outside of the vocabulary";
  if (!why.empty()) {
    into.fault = ec::row_fault;
    into.fault_text =
        "no log-probability for prompt token " + std::to_string(target) + ": " + std::string{why};
    return;
  }
  const token_value chosen{target, raw.logprob(static_cast<uint32_t>(target))};
  into.prompt.push_back(chosen);
  auto& top = into.prompt_top.emplace_back();
  if (top_n > 0) {
    fill_top(raw, top_n, s, top);
    add_if_absent(top, chosen);
  }
}

caf::expected<std::vector<token_value>> next_token_distribution(std::span<const float> logits,
                                                                const sequence_sampler& sampler,
                                                                uint32_t position) {
  auto& s = scratch();
  raw_row raw;
  scored_row row;
  auto why = look_through(logits, s, raw);
  if (why.empty())
    why = score(raw, sampler, position, false, s, row);
  if (!why.empty())
    return caf::make_error(ec::row_fault, std::string{why});
  std::vector<token_value> result;
  const auto& p = sampler.params();
  if (!p.sample) {
    result.push_back({static_cast<int32_t>(row.best), 1.0f});
    return result;
  }
  keep_likely(p, row.view, row.highest, s.warp, s.kept);
  for (size_t i = 0; i < s.kept.ids.size(); ++i)
    if (const auto probability = static_cast<float>(s.kept.weights[i] / s.kept.total);
        probability > 0)
      result.push_back({static_cast<int32_t>(s.kept.ids[i]), probability});
  return result;
}

} // namespace troupe::models
