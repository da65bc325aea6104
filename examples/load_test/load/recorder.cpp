#include "troupe/examples/load_test/load/recorder.hpp"

#include <algorithm>

namespace troupe::load_test {

namespace {

constexpr uint8_t kept_texts = 3;
constexpr size_t longest_text = 300;

} // namespace

recorder::recorder(nanoseconds measured_from, nanoseconds measured_until)
    : from_{measured_from}, until_{measured_until} {}

recorder::slot recorder::begin(nanoseconds scheduled, nanoseconds sent, uint32_t prompt_tokens) {
  slot s;
  if (free_.empty()) {
    s = static_cast<slot>(live_.size());
    live_.emplace_back();
  } else {
    s = free_.back();
    free_.pop_back();
  }
  auto& live = live_[s];
  live.record = {};
  live.record.scheduled = scheduled;
  live.record.sent = sent;
  live.record.prompt_tokens = prompt_tokens;
  live.record.measured = scheduled >= from_ && (until_ == 0 || scheduled < until_);
  live.gaps.clear();
  live.tokens = 0;
  ++begun_;
  return s;
}

void recorder::end(slot s, nanoseconds now, const request_end& how) {
  auto& live = live_[s];
  auto& record = live.record;
  record.end = now;
  record.ended = how.ended;
  record.status = how.status;
  if (how.prompt_tokens > 0)
    record.prompt_tokens = how.prompt_tokens;
  record.output_tokens = how.output_tokens > 0 ? how.output_tokens : live.tokens;
  record.first_gap = gaps_.size();
  record.gap_count = static_cast<uint32_t>(live.gaps.size());
  gaps_.insert(gaps_.end(), live.gaps.begin(), live.gaps.end());
  requests_.push_back(record);
  is_failure(how.ended) ? ++failed_ : ++completed_;
  auto& texts = texts_[static_cast<size_t>(how.ended)];
  if (is_failure(how.ended) && !how.complaint.empty() && texts < kept_texts) {
    ++texts;
    failure_texts_.emplace_back(how.ended, how.complaint.substr(0, longest_text));
  }
  free_.push_back(s);
}

void recorder::drain_into(run_results& to) {
  auto offset = to.gaps.size();
  to.gaps.insert(to.gaps.end(), gaps_.begin(), gaps_.end());
  for (auto& record : requests_) {
    record.first_gap += offset;
    to.requests.push_back(record);
  }
  for (auto& text : failure_texts_) {
    auto same = std::count_if(to.failure_texts.begin(), to.failure_texts.end(),
                              [&](const auto& t) { return t.first == text.first; });
    if (same < kept_texts)
      to.failure_texts.push_back(std::move(text));
  }
  requests_.clear();
  gaps_.clear();
  failure_texts_.clear();
}

void finish(run_results& r, nanoseconds from, nanoseconds until) {
  std::stable_sort(r.requests.begin(), r.requests.end(),
                   [](const auto& a, const auto& b) { return a.scheduled < b.scheduled; });
  r.begin = from;
  r.end = until;
  if (until == 0)
    for (const auto& record : r.requests)
      r.end = std::max(r.end, record.end);
}

} // namespace troupe::load_test
