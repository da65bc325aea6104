#include "troupe/actors/scheduling/beam_search.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::scheduling {

beam_search::beam_search(rules r) : rules_(std::move(r)) {
  rules_.beams = std::max(rules_.beams, 1u);
  rules_.groups = std::clamp(rules_.groups, 1u, rules_.beams);
  groups_.resize(rules_.groups);
  if (rules_.watch)
    for (auto& g : groups_)
      g.beams.front().text = rules_.watch->text;
}

/// Enough that as many as beams of a group remain even if every beam's best are all those that end
/// it.
size_t beam_search::kept_options() const {
  return std::max<size_t>(2, 1 + rules_.ends.size()) * group_size();
}

row_wants beam_search::wants() const {
  row_wants w;
  // Those that other groups chose may fall behind others.
  const auto wanted = kept_options() + (rules_.beams - group_size());
  w.candidates = static_cast<uint16_t>(std::min<size_t>(wanted, UINT16_MAX));
  w.scores = candidate_scores::beams;
  w.top_n = rules_.top_n;
  return w;
}

float beam_search::penalty_of(int32_t token) const {
  if (chosen_.empty())
    return 0;
  return rules_.diversity_penalty *
         static_cast<float>(std::count(chosen_.begin(), chosen_.end(), token));
}

std::vector<beam_search::option> beam_search::best_options(std::span<const row_result> rows,
                                                           const group& from,
                                                           uint32_t first_lane) const {
  std::vector<option> all;
  for (uint32_t i = 0; i < from.beams.size(); ++i) {
    // The prompt's row is all groups'.
    const auto lane = length_ == 1 ? 0 : first_lane + i;
    const auto& row = rows[lane];
    const auto before = from.beams[i].score;
    const bool drawn = row.candidate_keys.size() == row.candidates.size();
    for (uint32_t rank = 0; rank < row.candidates.size(); ++rank) {
      const auto& candidate = row.candidates[rank];
      const auto score = candidate.value - penalty_of(candidate.token) + before;
      const auto key = drawn ? row.candidate_keys[rank] + before : score;
      all.push_back({i, lane, rank, candidate.token, score, key});
    }
  }
  auto by = [](float option::*what) {
    return [what](const option& a, const option& b) {
      if (a.*what != b.*what)
        return a.*what > b.*what;
      return a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
    };
  };
  const auto kept = static_cast<ptrdiff_t>(std::min(kept_options(), all.size()));
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), by(&option::key));
  all.erase(all.begin() + kept, all.end());
  std::sort(all.begin(), all.end(), by(&option::score));
  return all;
}

/// The node of an option's token.
uint32_t beam_search::grow(const beam& parent, const option& o, const row_result& row) {
  node fresh;
  fresh.before = parent.last;
  fresh.token.sequence = row.sequence;
  fresh.token.token = o.token;
  fresh.token.logprob =
      o.rank < row.candidate_logprobs.size() ? row.candidate_logprobs[o.rank] : 0.0f;
  fresh.token.top = row.top;
  const bool listed = std::any_of(row.top.begin(), row.top.end(),
                                  [&](const token_value& t) { return t.token == o.token; });
  if (rules_.top_n > 0 && !listed)
    fresh.token.top.push_back({o.token, fresh.token.logprob});
  nodes_.push_back(std::move(fresh));
  return static_cast<uint32_t>(nodes_.size() - 1);
}

/// Keeps the best finished sequences, as many as a group has beams.
void beam_search::finish(group& to, double sum, uint32_t last) const {
  const double score = sum / std::pow(static_cast<double>(length_), rules_.length_penalty);
  if (to.found.size() >= group_size() && score <= to.worst)
    return;
  to.found.push_back({score, last});
  auto lower = [](const finished& a, const finished& b) { return a.score < b.score; };
  if (to.found.size() > group_size())
    to.found.erase(std::min_element(to.found.begin(), to.found.end(), lower));
  to.worst = std::min_element(to.found.begin(), to.found.end(), lower)->score;
}

/// Whether no running beam can still get better than the worst finished one, as far as `stopping`
/// cares. @param best_sum The highest sum of this round.
bool beam_search::is_done(const group& of, double best_sum) const {
  if (of.found.size() < group_size())
    return false;
  if (rules_.stopping == early_stopping::yes)
    return true;
  const bool longest = rules_.stopping == early_stopping::never && rules_.length_penalty > 0;
  const auto length = static_cast<double>(longest ? rules_.max_new_tokens : length_);
  return of.worst >= best_sum / std::pow(length, rules_.length_penalty);
}

/// A group's round. @param first_lane Of its beams.
void beam_search::advance(group& g, std::span<row_result> rows, uint32_t first_lane,
                          std::vector<lane_step>& lanes) {
  const auto options = best_options(rows, g, first_lane);
  std::vector<beam> next;
  std::vector<lane_step> steps;
  for (size_t rank = 0; rank < options.size() && next.size() < group_size(); ++rank) {
    const auto& o = options[rank];
    const auto& parent = g.beams[o.beam];
    const auto& ends = rules_.ends;
    const bool ended = std::find(ends.begin(), ends.end(), o.token) != ends.end();
    auto text = ended || !parent.text ? nullptr : parent.text->after(o.token);
    if (ended || (text && text->stopped())) {
      // One that would not have been a beam is no finished sequence either.
      if (rank < group_size())
        finish(g, o.score, grow(parent, o, rows[o.parent]));
      continue;
    }
    next.push_back({grow(parent, o, rows[o.parent]), o.score, std::move(text)});
    steps.push_back({o.parent, o.token});
  }
  g.beams = std::move(next);
  g.done = !options.empty() && is_done(g, options.front().score);
  for (const auto& step : steps)
    chosen_.push_back(step.token);
  if (!g.done)
    lanes.insert(lanes.end(), steps.begin(), steps.end());
}

search_move beam_search::advance(std::span<row_result> rows) {
  search_move move;
  ++length_;
  chosen_.clear();
  uint32_t lane = 0;
  for (auto& g : groups_) {
    if (g.done)
      continue;
    const auto before = static_cast<uint32_t>(g.beams.size());
    advance(g, rows, lane, move.lanes);
    lane += before;
  }
  const bool up = rules_.watch && rules_.watch->time_is_up.load(std::memory_order_relaxed);
  if (!up && length_ < rules_.max_new_tokens && !move.lanes.empty())
    return move;
  for (auto& g : groups_)
    if (!g.done)
      for (const auto& open : g.beams)
        finish(g, open.score, open.last);
  move.lanes.clear();
  move.end =
      up || length_ >= rules_.max_new_tokens ? sequence_end::length : sequence_end::stop_token;
  return move;
}

std::vector<sequence_output> beam_search::outputs() {
  std::vector<finished> all;
  for (const auto& g : groups_)
    all.insert(all.end(), g.found.begin(), g.found.end());
  // Of equal ones the later goes first, as a stable sort popped from its end has it.
  std::reverse(all.begin(), all.end());
  std::stable_sort(all.begin(), all.end(),
                   [](const finished& a, const finished& b) { return a.score > b.score; });
  std::vector<sequence_output> result;
  for (const auto& one : all) {
    if (result.size() == rules_.returned)
      break;
    auto& output = result.emplace_back();
    output.score = one.score;
    for (auto i = one.last; i != none; i = nodes_[i].before)
      output.tokens.push_back(nodes_[i].token);
    std::reverse(output.tokens.begin(), output.tokens.end());
  }
  return result;
}

} // namespace troupe::scheduling
