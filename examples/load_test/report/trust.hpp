#pragma once

#include <string>
#include <vector>

namespace troupe::load_test::report {

struct summary;

/// When the load generator itself spoils the result.
struct trust_limits {
  /// p99 of the send lateness, which is part of every latency: spoilt when it is above this many
  /// milliseconds and above this share of the median time to first token (whole latency where there
  /// are no tokens).
  double send_lateness_p99_ms = 2;
  double send_lateness_share = 0.05;
  /// CPU of a worker, averaged over all workers: above it, tokens wait for the client.
  double worker_cpu_share = 0.9;
};

/// Something to know before trusting the figures.
struct remark {
  enum class grade {
    spoilt, ///< The generator distorts the figures: shown in red.
    warning ///< The figures stand but mean less than they seem.
  };
  grade how = grade::warning;
  std::string text; ///< What, by how much, and what to do about it.
};

/// Judges a summary whose figures are complete. The gravest first.
std::vector<remark> judge(const summary& x, const trust_limits& limits);

/// The generator spoilt this result.
bool spoilt(const std::vector<remark>& remarks);

} // namespace troupe::load_test::report
