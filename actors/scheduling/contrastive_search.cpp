#include "troupe/actors/scheduling/contrastive_search.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace troupe::scheduling {

namespace {

/// Independent sums, so that the compiler may use vectors without reordering anything.
float dot(const float* a, const float* b, size_t count) {
  constexpr size_t lanes = 16;
  std::array<float, lanes> sums{};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (size_t j = 0; j < lanes; ++j)
      sums[j] += a[i + j] * b[i + j];
  for (; i < count; ++i)
    sums[i % lanes] += a[i] * b[i];
  float total = 0;
  for (auto x : sums)
    total += x;
  return total;
}

} // namespace

row_wants contrastive_search::wants() const {
  row_wants w;
  w.candidates = static_cast<uint16_t>(std::min<uint32_t>(rules_.candidates, UINT16_MAX));
  w.scores = candidate_scores::probabilities;
  w.top_n = rules_.top_n;
  w.hidden_state = true;
  w.embeddings = rules_.embeddings;
  return w;
}

void contrastive_search::remember(std::span<const float> state) {
  const auto length = std::sqrt(dot(state.data(), state.data(), state.size()));
  for (auto x : state)
    directions_.push_back(x / length);
}

void contrastive_search::take_hidden(uint32_t position, uint32_t count,
                                     std::span<const float> states) {
  if (count == 0)
    return;
  width_ = states.size() / count;
  // What comes a second time, because a chunk was computed again, is known already.
  for (uint32_t i = 0; i < count; ++i)
    if (position + i == known())
      remember(states.subspan(i * width_, width_));
}

/// The greatest cosine between `state` and what is remembered.
float contrastive_search::likeness(std::span<const float> state) const {
  const auto length = std::sqrt(dot(state.data(), state.data(), state.size()));
  float greatest = -std::numeric_limits<float>::infinity();
  for (size_t at = 0; at < directions_.size(); at += width_)
    greatest = std::max(greatest, dot(state.data(), directions_.data() + at, width_));
  return greatest / length;
}

/// The lanes that find out about a row's candidates.
search_move contrastive_search::try_candidates(row_result& row, uint32_t lane) {
  search_move move;
  before_ = std::move(row);
  for (const auto& candidate : before_.candidates)
    move.lanes.push_back({lane, candidate.token});
  return move;
}

search_move contrastive_search::advance(std::span<row_result> rows) {
  if (!ranked_) {
    ranked_ = true;
    return try_candidates(rows.front(), 0);
  }
  uint32_t best = 0;
  float highest = -std::numeric_limits<float>::infinity();
  for (uint32_t i = 0; i < rows.size(); ++i) {
    const auto score = (1.0f - rules_.alpha) * before_.candidates[i].value -
                       rules_.alpha * likeness(rows[i].hidden);
    if (score > highest) {
      highest = score;
      best = i;
    }
  }
  remember(rows[best].hidden);
  ++generated_;
  row_result token;
  token.sequence = before_.sequence;
  token.token = before_.candidates[best].token;
  token.logprob = best < before_.candidate_logprobs.size() ? before_.candidate_logprobs[best] : 0;
  token.top = std::move(before_.top);
  const bool listed = std::any_of(token.top.begin(), token.top.end(),
                                  [&](const token_value& t) { return t.token == token.token; });
  if (rules_.top_n > 0 && !listed)
    token.top.push_back({token.token, token.logprob});
  const bool ends =
      std::find(rules_.ends.begin(), rules_.ends.end(), token.token) != rules_.ends.end();
  search_move move;
  if (ends)
    move.end = sequence_end::stop_token;
  else if (generated_ >= rules_.max_new_tokens)
    move.end = sequence_end::length;
  else
    move = try_candidates(rows[best], best);
  move.token = std::move(token);
  return move;
}

} // namespace troupe::scheduling
