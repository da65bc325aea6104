#include "troupe/examples/load_test/report/test_report.hpp"

#include <algorithm>

#include "troupe/examples/load_test/report/figures.hpp"

namespace troupe::load_test::report {

namespace {

void average_figures(const std::vector<summary>& repeats, summary& into) {
  for (auto& g : latency_groups()) {
    (into.*g.figures).count = 0;
    for (auto& r : repeats)
      (into.*g.figures).count += (r.*g.figures).count;
  }
  for (auto& f : figures()) {
    double sum = 0, highest = 0;
    size_t n = 0;
    for (auto& r : repeats) {
      if (!f.present(r))
        continue;
      sum += f.of(r);
      highest = std::max(highest, f.of(r));
      ++n;
    }
    f.of(into) = n == 0 ? 0 : f.percentile == 100 ? highest : sum / static_cast<double>(n);
  }
}

void add_counts(const summary& from, summary& to) {
  to.measured_s += from.measured_s;
  to.requests += from.requests;
  to.completed += from.completed;
  to.failed += from.failed;
  to.prompt_tokens += from.prompt_tokens;
  to.output_tokens += from.output_tokens;
  for (size_t i = 0; i < to.by_outcome.size(); ++i)
    to.by_outcome[i] += from.by_outcome[i];
  to.worker_cpu_share = std::max(to.worker_cpu_share, from.worker_cpu_share);
  to.failure_texts.insert(to.failure_texts.end(), from.failure_texts.begin(),
                          from.failure_texts.end());
}

void add_verdicts(const summary& from, summary& to) {
  for (size_t i = 0; i < std::min(to.objectives.size(), from.objectives.size()); ++i) {
    auto& worst = to.objectives[i];
    auto& x = from.objectives[i];
    // No value is worse than any value.
    if (worst.measured_ms && (!x.measured_ms || *x.measured_ms > *worst.measured_ms))
      worst.measured_ms = x.measured_ms;
    worst.met = worst.met && x.met;
    if (worst.why.empty())
      worst.why = x.why;
  }
}

void add_blocks(const timeline& from, timeline& to) {
  if (from.block_s != to.block_s)
    return;
  to.within = std::min(to.within, from.within);
  to.blocks.resize(std::max(to.blocks.size(), from.blocks.size()));
  for (size_t i = 0; i < from.blocks.size(); ++i) {
    auto& a = to.blocks[i];
    auto& b = from.blocks[i];
    for (auto& g : latency_groups()) {
      if (!g.sketch)
        continue;
      histogram sum;
      (a.*g.sketch).add_to(sum);
      (b.*g.sketch).add_to(sum);
      a.*g.sketch = sparse_histogram{sum};
    }
    a.output_tokens += b.output_tokens;
    a.completed += b.completed;
    a.good += b.good;
    a.failed += b.failed;
    a.active += b.active;
    a.completed_spread += b.completed_spread;
    a.good_spread += b.good_spread;
  }
}

/// Two remarks that differ in their figures alone say the same thing.
std::string without_figures(std::string text) {
  std::erase_if(text, [](char c) { return (c >= '0' && c <= '9') || c == '.' || c == ','; });
  return text;
}

std::vector<remark> remarks_of(const std::vector<summary>& repeats) {
  struct said {
    remark first;
    std::string where;
  };
  std::vector<said> all;
  for (size_t i = 0; i < repeats.size(); ++i)
    for (auto& r : repeats[i].remarks) {
      auto same = std::find_if(all.begin(), all.end(), [&](auto& x) {
        return x.first.how == r.how && without_figures(x.first.text) == without_figures(r.text);
      });
      if (same == all.end())
        all.push_back({r, std::to_string(i + 1)});
      else
        same->where += ", " + std::to_string(i + 1);
    }
  std::stable_sort(all.begin(), all.end(),
                   [](auto& a, auto& b) { return a.first.how < b.first.how; });
  std::vector<remark> out;
  for (auto& x : all)
    out.push_back({x.first.how, "In repeat " + x.where + ": " + x.first.text});
  return out;
}

} // namespace

summary combined(const load_point& point) {
  auto& repeats = point.repeats;
  auto all = repeats.front();
  if (repeats.size() == 1)
    return all;
  for (size_t i = 1; i < repeats.size(); ++i) {
    add_counts(repeats[i], all);
    add_verdicts(repeats[i], all);
    add_blocks(repeats[i].over_time, all.over_time);
  }
  average_figures(repeats, all);
  all.remarks = remarks_of(repeats);
  return all;
}

double load_of(const load_point& point, const std::string& swept) {
  auto& what = point.repeats.front().what;
  return swept == "users" ? what.users : what.rate;
}

} // namespace troupe::load_test::report
