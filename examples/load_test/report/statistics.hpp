#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "troupe/examples/load_test/report/objectives.hpp"
#include "troupe/examples/load_test/report/timeline.hpp"
#include "troupe/examples/load_test/report/trust.hpp"
#include "troupe/examples/load_test/results.hpp"

/// From records to figures. All percentiles are exact: taken from all samples, none binned.
namespace troupe::load_test::report {

/// The percentile of all samples by linear interpolation between the two closest ranks, numpy's
/// default (Hyndman & Fan, "Sample Quantiles in Statistical Packages", 1996, definition 7):
/// with x sorted and h = (n - 1) * p / 100, it is x[floor h] + (h - floor h) * (x[ceil h] - x[floor
/// h]). Reorders `samples`; linear in their number.
/// @param p 0 <= p <= 100
/// @pre `samples` is not empty.
double percentile(std::span<nanoseconds> samples, double p);

/// The same with `infinite` more samples that are longer than any other; empty when the percentile
/// touches one of these, or there is no sample at all.
std::optional<double> percentile_with_failures(std::span<nanoseconds> samples, uint64_t infinite,
                                               double p);

/// Figures of one latency, in milliseconds. All 0 when `count` is.
struct distribution {
  uint64_t count = 0;
  double mean = 0;
  double p50 = 0, p90 = 0, p95 = 0, p99 = 0, p99_9 = 0;
  double max = 0;
};

/// Reorders `samples`, which are in nanoseconds. 10 million take 0.2 s.
distribution distribution_of(std::span<nanoseconds> samples);

/// One run in figures.
///
/// Latencies are those of measured requests and count from `scheduled`:
///   ttft = first_token - scheduled             requests that ended well or that we cancelled
///   itl  = each gap between tokens             of the same requests
///   tpot = (end - first_token) / (output_tokens - 1), with two tokens or more, of the same
///   e2e  = end - scheduled                     requests that ended well
///   send_lateness = sent - scheduled           requests that were sent, however they ended
/// Failed requests have no latency, since a quick refusal would make a bad server look fast; they
/// stand under `by_outcome` and count against the objectives as infinitely slow.
///
/// Rates are counts of what happened within the measured time [begin, end], over its length:
///   output_tokens_per_s    tokens that arrived in it, also those of requests that began earlier
///   requests_per_s         requests that ended well in it
///   goodput_requests_per_s of these, the ones that met every objective (see `meets`)
struct summary {
  run_description what;
  double measured_s = 0;

  uint64_t requests = 0;  ///< Measured ones; so are the next five.
  uint64_t completed = 0; ///< Ended well.
  uint64_t failed = 0;    ///< Neither ended well nor were cancelled by us.
  std::array<uint64_t, static_cast<size_t>(outcome::count)> by_outcome{};
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;

  distribution ttft_ms, itl_ms, tpot_ms, e2e_ms, send_lateness_ms;
  double output_tokens_per_s = 0;
  double requests_per_s = 0;
  double goodput_requests_per_s = 0;

  uint32_t workers = 1;
  /// CPU time of the generator over measured time and workers: 1 = every worker busy all the time.
  double worker_cpu_share = 0;

  std::vector<objective_verdict> objectives;
  std::vector<remark> remarks; ///< What to know before trusting the figures; the gravest first.
  std::vector<std::pair<outcome, std::string>> failure_texts; ///< Untrusted.
  timeline over_time;
};

/// Computes everything. Time: linear in requests and gaps, half a second for 10 million gaps, and
/// 8 bytes more for each of these.
summary summarize(const run_results& run, const std::vector<objective>& objectives,
                  const trust_limits& limits = {});

/// Every objective is met.
bool objectives_met(const summary& x);

/// Latencies of this request are samples: it ended well, or we cancelled it.
inline bool has_latencies(const request_record& r) {
  return r.ended == outcome::ok || r.ended == outcome::cancelled;
}

/// The request's gaps; empty when they do not lie within the run's.
std::span<const nanoseconds> gaps_of(const run_results& run, const request_record& r);

/// Empty with less than two tokens, or none that came before the end.
std::optional<nanoseconds> time_per_output_token(const request_record& r);

/// Calls `f(time, tokens)` for each arrival of tokens. A stream has 1 + gap_count arrivals; where
/// the server counted more tokens than came apart, they are spread evenly over these.
template <class F>
void for_each_arrival(const run_results& run, const request_record& r, F&& f) {
  if (r.output_tokens == 0)
    return;
  if (r.first_token == 0) {
    f(r.end, uint64_t{r.output_tokens});
    return;
  }
  auto gaps = gaps_of(run, r);
  uint64_t arrivals = gaps.size() + 1;
  uint64_t handed_out = 0;
  auto t = r.first_token;
  for (uint64_t i = 0; i < arrivals; ++i) {
    if (i > 0)
      t += gaps[i - 1];
    auto until = r.output_tokens * (i + 1) / arrivals;
    if (until > handed_out)
      f(t, until - handed_out);
    handed_out = until;
  }
}

} // namespace troupe::load_test::report
