#include "troupe/examples/load_test/report/live_counters.hpp"

namespace troupe::load_test::report {

namespace {

live_snapshot::latency between(const std::vector<uint32_t>& from, const std::vector<uint32_t>& to) {
  histogram h;
  for (size_t i = 0; i < to.size(); ++i)
    h.add(i, to[i] - from[i]); // Wraps as the counts do.
  constexpr double nanoseconds_per_ms = 1e6;
  return {h.count(), h.percentile(50) / nanoseconds_per_ms, h.percentile(99) / nanoseconds_per_ms};
}

} // namespace

live_window::live_window(std::vector<const live_counters*> workers, double recent_s)
    : workers_(std::move(workers)), recent_s_(recent_s) {
  past_.push_back(read(0));
}

live_window::totals live_window::read(double elapsed_s) const {
  totals t{elapsed_s, 0, 0, std::vector<uint32_t>(histogram_bins::count),
           std::vector<uint32_t>(histogram_bins::count)};
  for (auto* w : workers_) {
    t.completed += w->completed.get();
    t.output_tokens += w->output_tokens.get();
    for (size_t i = 0; i < histogram_bins::count; ++i) {
      t.ttft[i] += w->ttft.at(i);
      t.itl[i] += w->itl.at(i);
    }
  }
  return t;
}

live_snapshot live_window::take(double elapsed_s) {
  auto now = read(elapsed_s);
  live_snapshot s;
  s.elapsed_s = elapsed_s;
  s.completed = now.completed;
  s.output_tokens = now.output_tokens;
  uint64_t started = 0, cancelled = 0;
  for (auto* w : workers_) {
    s.failed += w->failed.get();
    cancelled += w->cancelled.get();
    started += w->started.get();
  }
  // The counts are read one after the other while they move.
  auto ended = s.completed + s.failed + cancelled;
  s.active = started > ended ? started - ended : 0;
  while (past_.size() > 1 && past_[1].at_s <= elapsed_s - recent_s_)
    past_.pop_front();
  auto& then = past_.front();
  s.recent_s = elapsed_s - then.at_s;
  if (s.recent_s > 0) {
    s.requests_per_s = static_cast<double>(now.completed - then.completed) / s.recent_s;
    s.output_tokens_per_s =
        static_cast<double>(now.output_tokens - then.output_tokens) / s.recent_s;
  }
  s.ttft = between(then.ttft, now.ttft);
  s.itl = between(then.itl, now.itl);
  past_.push_back(std::move(now));
  return s;
}

} // namespace troupe::load_test::report
