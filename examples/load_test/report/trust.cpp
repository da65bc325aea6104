#include "troupe/examples/load_test/report/trust.hpp"

#include <algorithm>

#include "troupe/examples/load_test/report/format.hpp"
#include "troupe/examples/load_test/report/statistics.hpp"

namespace troupe::load_test::report {

namespace {

using grade = remark::grade;

void judge_lateness(const summary& x, const trust_limits& limits, std::vector<remark>& out) {
  auto& base = x.ttft_ms.count > 0 ? x.ttft_ms : x.e2e_ms;
  auto late = x.send_lateness_ms.p99;
  if (late <= limits.send_lateness_p99_ms)
    return;
  if (base.count > 0 && late <= limits.send_lateness_share * base.p50)
    return;
  out.push_back({grade::spoilt, "The generator sent late: " + format_ms(late) +
                                    " behind schedule at p99, which is part of every latency here. "
                                    "Use more workers, or a machine of its own."});
}

void judge_cpu(const summary& x, const trust_limits& limits, std::vector<remark>& out) {
  if (x.worker_cpu_share <= limits.worker_cpu_share)
    return;
  out.push_back({grade::spoilt, "The generator had no CPU left: its " + std::to_string(x.workers) +
                                    (x.workers == 1 ? " worker was " : " workers were ") +
                                    format_percent(x.worker_cpu_share) +
                                    " busy, so tokens waited for the client. Use more workers, or "
                                    "less load per client."});
}

/// A percentile needs some samples beyond it, or it is the maximum by another name.
void judge_counts(const summary& x, std::vector<remark>& out) {
  if (x.requests == 0) {
    out.push_back({grade::warning, "No request was measured. Let it run for longer, or shorten the "
                                   "warm-up."});
    return;
  }
  if (x.completed == 0)
    out.push_back({grade::warning, "No request ended well, so there are no latencies."});
  else if (x.completed < 100)
    out.push_back({grade::warning, "Only " + std::to_string(x.completed) +
                                       " requests ended well: their p99 is little else than their "
                                       "maximum. Measure 1000 or more for a steady p99."});
}

void judge_failures(const summary& x, std::vector<remark>& out) {
  if (x.failed == 0)
    return;
  out.push_back({grade::warning, std::to_string(x.failed) + " of " + std::to_string(x.requests) +
                                     " requests failed. They have no latency, so the figures speak "
                                     "of the others only."});
}

/// An open loop that the server cannot follow has no steady state: its latencies are a matter of
/// how long it ran.
void judge_rate(const summary& x, std::vector<remark>& out) {
  auto asked = x.what.rate;
  auto answered =
      x.measured_s > 0 ? x.requests_per_s + static_cast<double>(x.failed) / x.measured_s : 0;
  // Random arrivals alone vary by the square root of their number.
  auto expected = asked * x.measured_s;
  if (asked <= 0 || expected < 20 || answered >= 0.85 * asked)
    return;
  out.push_back({grade::warning, "The server did not keep up: " + format_number(asked) +
                                     " requests/s were asked for, " + format_number(answered) +
                                     "/s answered. Latencies at this rate grow with the length of "
                                     "the test."});
}

} // namespace

std::vector<remark> judge(const summary& x, const trust_limits& limits) {
  std::vector<remark> all;
  judge_lateness(x, limits, all);
  judge_cpu(x, limits, all);
  judge_failures(x, all);
  judge_rate(x, all);
  judge_counts(x, all);
  return all;
}

bool spoilt(const std::vector<remark>& remarks) {
  return std::any_of(remarks.begin(), remarks.end(),
                     [](auto& r) { return r.how == remark::grade::spoilt; });
}

} // namespace troupe::load_test::report
