#include "troupe/actors/scheduling/beam_search.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::scheduling {

beam_search::beam_search(rules r) : rules_(std::move(r)), beams_{beam{}} {
  rules_.beams = std::max(rules_.beams, 1u);
  if (rules_.watch)
    beams_.front().text = rules_.watch->text;
}

/// Enough that as many as beams remain even if every beam's best are all those that end it.
size_t beam_search::kept_options() const {
  return std::max<size_t>(2, 1 + rules_.ends.size()) * rules_.beams;
}

row_wants beam_search::wants() const {
  row_wants w;
  w.candidates = static_cast<uint16_t>(std::min<size_t>(kept_options(), UINT16_MAX));
  w.scores = candidate_scores::beams;
  w.top_n = rules_.top_n;
  return w;
}

std::vector<beam_search::option> beam_search::best_options(std::span<const row_result> rows) const {
  std::vector<option> all;
  for (uint32_t lane = 0; lane < rows.size(); ++lane) {
    const auto& row = rows[lane];
    const bool drawn = row.candidate_keys.size() == row.candidates.size();
    for (uint32_t i = 0; i < row.candidates.size(); ++i) {
      const auto score = row.candidates[i].value + beams_[lane].score;
      const auto key = drawn ? row.candidate_keys[i] + beams_[lane].score : score;
      all.push_back({lane, i, row.candidates[i].token, score, key});
    }
  }
  auto by = [](float option::*what) {
    return [what](const option& a, const option& b) {
      if (a.*what != b.*what)
        return a.*what > b.*what;
      return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
    };
  };
  const auto kept = static_cast<ptrdiff_t>(std::min(kept_options(), all.size()));
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), by(&option::key));
  all.erase(all.begin() + kept, all.end());
  std::sort(all.begin(), all.end(), by(&option::score));
  return all;
}

/// The node of an option's token.
uint32_t beam_search::grow(const option& o, const row_result& row) {
  node fresh;
  fresh.before = beams_[o.parent].last;
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

/// Keeps the best `beams` finished sequences.
void beam_search::finish(double sum, uint32_t last) {
  const double score = sum / std::pow(static_cast<double>(length_), rules_.length_penalty);
  if (finished_.size() >= rules_.beams && score <= worst_)
    return;
  finished_.push_back({score, last});
  auto lower = [](const finished& a, const finished& b) { return a.score < b.score; };
  if (finished_.size() > rules_.beams)
    finished_.erase(std::min_element(finished_.begin(), finished_.end(), lower));
  worst_ = std::min_element(finished_.begin(), finished_.end(), lower)->score;
}

/// Whether no running beam can still get better than the worst finished one, as far as `stopping`
/// cares. @param best_sum The highest sum of this round.
bool beam_search::is_done(double best_sum) const {
  if (finished_.size() < rules_.beams)
    return false;
  if (rules_.stopping == early_stopping::yes)
    return true;
  const bool longest = rules_.stopping == early_stopping::never && rules_.length_penalty > 0;
  const auto length = static_cast<double>(longest ? rules_.max_new_tokens : length_);
  return worst_ >= best_sum / std::pow(length, rules_.length_penalty);
}

search_move beam_search::advance(std::span<row_result> rows) {
  search_move move;
  ++length_;
  const auto options = best_options(rows);
  std::vector<beam> next;
  for (size_t rank = 0; rank < options.size() && next.size() < rules_.beams; ++rank) {
    const auto& o = options[rank];
    const auto& ends = rules_.ends;
    const bool ended = std::find(ends.begin(), ends.end(), o.token) != ends.end();
    const auto& before = beams_[o.parent].text;
    auto text = ended || !before ? nullptr : before->after(o.token);
    if (ended || (text && text->stopped())) {
      // One that would not have been a beam is no finished sequence either.
      if (rank < rules_.beams)
        finish(o.score, grow(o, rows[o.parent]));
      continue;
    }
    next.push_back({grow(o, rows[o.parent]), o.score, std::move(text)});
    move.lanes.push_back({o.parent, o.token});
  }
  beams_ = std::move(next);
  const bool done = !options.empty() && is_done(options.front().score);
  const bool up = rules_.watch && rules_.watch->time_is_up.load(std::memory_order_relaxed);
  if (!done && !up && length_ < rules_.max_new_tokens && !beams_.empty())
    return move;
  if (!done)
    for (const auto& open : beams_)
      finish(open.score, open.last);
  move.lanes.clear();
  move.end =
      up || length_ >= rules_.max_new_tokens ? sequence_end::length : sequence_end::stop_token;
  return move;
}

std::vector<sequence_output> beam_search::outputs() {
  // Of equal ones the later goes first, as a stable sort popped from its end has it.
  std::reverse(finished_.begin(), finished_.end());
  std::stable_sort(finished_.begin(), finished_.end(),
                   [](const finished& a, const finished& b) { return a.score > b.score; });
  std::vector<sequence_output> result;
  for (const auto& one : finished_) {
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
