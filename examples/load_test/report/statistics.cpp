#include "troupe/examples/load_test/report/statistics.hpp"

#include <cmath>
#include <limits>

namespace troupe::load_test::report {

namespace {

constexpr double nanoseconds_per_ms = 1e6;
constexpr double nanoseconds_per_s = 1e9;

double rank_of(size_t n, double p) {
  return p / 100 * static_cast<double>(n - 1);
}

/// The percentile, with everything before `sorted_below` known to be no longer than what follows.
/// Afterwards that holds for the place of the percentile too.
double percentile_above(std::span<nanoseconds> samples, double p, size_t& sorted_below) {
  auto h = rank_of(samples.size(), p);
  auto k = static_cast<size_t>(h);
  auto begin = samples.begin();
  auto nth = begin + static_cast<std::ptrdiff_t>(k);
  if (k >= sorted_below)
    std::nth_element(begin + static_cast<std::ptrdiff_t>(sorted_below), nth, samples.end());
  sorted_below = k + 1;
  auto low = static_cast<double>(*nth);
  auto share = h - static_cast<double>(k);
  if (share == 0 || k + 1 == samples.size())
    return low;
  auto high = static_cast<double>(*std::min_element(nth + 1, samples.end()));
  return low + share * (high - low);
}

struct sample_set {
  std::vector<nanoseconds> ttft, itl, tpot, e2e, lateness;
};

sample_set collect(const run_results& run) {
  sample_set all;
  all.itl.reserve(run.gaps.size());
  for (auto& r : run.requests) {
    if (!r.measured)
      continue;
    if (r.sent != 0)
      all.lateness.push_back(r.sent - r.scheduled);
    if (!has_latencies(r))
      continue;
    if (r.ended == outcome::ok)
      all.e2e.push_back(r.end - r.scheduled);
    if (r.first_token == 0)
      continue;
    all.ttft.push_back(r.first_token - r.scheduled);
    if (auto tpot = time_per_output_token(r))
      all.tpot.push_back(*tpot);
    auto gaps = gaps_of(run, r);
    all.itl.insert(all.itl.end(), gaps.begin(), gaps.end());
  }
  return all;
}

void count_requests(const run_results& run, summary& s) {
  for (auto& r : run.requests) {
    if (!r.measured)
      continue;
    ++s.requests;
    auto kind = std::min(static_cast<size_t>(r.ended), s.by_outcome.size() - 1);
    ++s.by_outcome[kind];
    s.prompt_tokens += r.prompt_tokens;
    s.output_tokens += r.output_tokens;
  }
  s.completed = s.by_outcome[static_cast<size_t>(outcome::ok)];
  s.failed = s.requests - s.completed - s.by_outcome[static_cast<size_t>(outcome::cancelled)];
}

void add_rates(const run_results& run, const std::vector<objective>& objectives, summary& s) {
  if (s.measured_s <= 0)
    return;
  auto inside = [&](nanoseconds t) { return t >= run.begin && t <= run.end; };
  uint64_t tokens = 0, completed = 0, good = 0;
  for (auto& r : run.requests) {
    if (r.ended == outcome::ok && inside(r.end)) {
      ++completed;
      good += meets(run, r, objectives) ? 1 : 0;
    }
    for_each_arrival(run, r, [&](nanoseconds t, uint64_t n) { tokens += inside(t) ? n : 0; });
  }
  s.output_tokens_per_s = static_cast<double>(tokens) / s.measured_s;
  s.requests_per_s = static_cast<double>(completed) / s.measured_s;
  s.goodput_requests_per_s = static_cast<double>(good) / s.measured_s;
}

objective_verdict verdict_on(const objective& goal, sample_set& all, uint64_t failed,
                             uint64_t requests) {
  objective_verdict v{goal, std::nullopt, false, {}};
  auto failures = std::to_string(failed) + " of " + std::to_string(requests) + " requests failed";
  auto judge_samples = [&](std::vector<nanoseconds>& samples, uint64_t infinite) {
    if (auto x = percentile_with_failures(samples, infinite, goal.percentile)) {
      v.measured_ms = *x / nanoseconds_per_ms;
      v.met = *x <= static_cast<double>(goal.at_most);
    } else {
      v.why =
          infinite > 0 ? failures + ", which counts as infinitely slow" : "nothing was measured";
    }
  };
  switch (goal.what) {
  case objective::latency::ttft:
    judge_samples(all.ttft, failed);
    break;
  case objective::latency::tpot:
    judge_samples(all.tpot, failed);
    break;
  case objective::latency::e2e:
    judge_samples(all.e2e, failed);
    break;
  case objective::latency::itl: {
    // A request that failed has no count of gaps to set against the others': its share decides.
    judge_samples(all.itl, 0);
    auto share = requests == 0 ? 0 : static_cast<double>(failed) / static_cast<double>(requests);
    if (share > 1 - goal.percentile / 100) {
      v.met = false;
      v.why = failures + ", more than the percentile leaves room for";
    }
    break;
  }
  }
  return v;
}

} // namespace

double percentile(std::span<nanoseconds> samples, double p) {
  size_t sorted_below = 0;
  return percentile_above(samples, p, sorted_below);
}

std::optional<double> percentile_with_failures(std::span<nanoseconds> samples, uint64_t infinite,
                                               double p) {
  if (samples.empty())
    return std::nullopt;
  if (infinite == 0)
    return percentile(samples, p);
  auto h = rank_of(samples.size() + infinite, p);
  auto highest_needed = static_cast<size_t>(std::ceil(h));
  if (highest_needed >= samples.size())
    return std::nullopt;
  // Among the finite ones the same rank is another percentile.
  return samples.size() == 1
             ? static_cast<double>(samples.front())
             : percentile(samples,
                          std::min(100.0, h / static_cast<double>(samples.size() - 1) * 100));
}

distribution distribution_of(std::span<nanoseconds> samples) {
  distribution d;
  d.count = samples.size();
  if (samples.empty())
    return d;
  double sum = 0;
  for (auto x : samples)
    sum += static_cast<double>(x);
  d.mean = sum / static_cast<double>(samples.size()) / nanoseconds_per_ms;
  size_t sorted_below = 0;
  auto next = [&](double p) {
    return percentile_above(samples, p, sorted_below) / nanoseconds_per_ms;
  };
  d.p50 = next(50);
  d.p90 = next(90);
  d.p95 = next(95);
  d.p99 = next(99);
  d.p99_9 = next(99.9);
  d.max = next(100);
  return d;
}

summary summarize(const run_results& run, const std::vector<objective>& objectives,
                  const trust_limits& limits) {
  summary s;
  s.what = run.what;
  s.measured_s = static_cast<double>(run.end - run.begin) / nanoseconds_per_s;
  s.failure_texts = run.failure_texts;
  s.workers = std::max(run.health.workers, 1U);
  if (run.health.wall_seconds > 0)
    s.worker_cpu_share = run.health.cpu_seconds / run.health.wall_seconds / s.workers;
  count_requests(run, s);
  add_rates(run, objectives, s);
  auto all = collect(run);
  s.ttft_ms = distribution_of(all.ttft);
  s.itl_ms = distribution_of(all.itl);
  s.tpot_ms = distribution_of(all.tpot);
  s.e2e_ms = distribution_of(all.e2e);
  s.send_lateness_ms = distribution_of(all.lateness);
  for (auto& goal : objectives)
    s.objectives.push_back(verdict_on(goal, all, s.failed, s.requests));
  s.over_time = make_timeline(run, objectives);
  s.remarks = judge(s, limits);
  return s;
}

bool objectives_met(const summary& x) {
  return std::all_of(x.objectives.begin(), x.objectives.end(), [](auto& v) { return v.met; });
}

std::span<const nanoseconds> gaps_of(const run_results& run, const request_record& r) {
  if (r.first_gap > run.gaps.size() || r.gap_count > run.gaps.size() - r.first_gap)
    return {};
  return std::span{run.gaps}.subspan(r.first_gap, r.gap_count);
}

std::optional<nanoseconds> time_per_output_token(const request_record& r) {
  if (r.first_token == 0 || r.output_tokens < 2)
    return std::nullopt;
  return (r.end - r.first_token) / static_cast<nanoseconds>(r.output_tokens - 1);
}

} // namespace troupe::load_test::report
