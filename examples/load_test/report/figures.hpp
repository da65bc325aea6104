#pragma once

#include <span>
#include <string>
#include <string_view>

#include "troupe/examples/load_test/report/statistics.hpp"

/// The figures of a run as a list, so that JSON, CSV, intervals and comparisons name the same ones.
namespace troupe::load_test::report {

/// One figure: a percentile, mean or maximum of a latency, or a rate.
struct figure {
  std::string_view group;  ///< "ttft_ms", or the whole name of a rate: "requests_per_s".
  std::string_view member; ///< "p99"; empty for a rate.
  distribution summary::*latencies = nullptr;
  double distribution::*part = nullptr;
  double summary::*rate = nullptr;
  double percentile = -1; ///< 100 for the maximum, -1 for a mean or a rate.

  bool is_rate() const { return rate != nullptr; }
  bool lower_is_better() const { return !is_rate(); }
  double of(const summary& x) const { return is_rate() ? x.*rate : x.*latencies.*part; }
  double& of(summary& x) const { return is_rate() ? x.*rate : x.*latencies.*part; }
  /// Something was measured: rates always are.
  bool present(const summary& x) const { return is_rate() || (x.*latencies).count > 0; }
  /// "ttft_ms.p99", "requests_per_s"
  std::string name() const;
};

/// The three rates, then every part of ttft_ms, itl_ms, tpot_ms, e2e_ms and send_lateness_ms.
std::span<const figure> figures();

/// A latency and where its sketches stand in a block; none for the send lateness.
struct latency_group {
  std::string_view name;  ///< "ttft_ms"
  std::string_view what;  ///< "time to first token"
  std::string_view brief; ///< "first token": where there is little room.
  distribution summary::*figures = nullptr;
  sparse_histogram time_block::*sketch = nullptr;
};
std::span<const latency_group> latency_groups();

/// The parts of a distribution by name: mean, p50, ..., max.
struct distribution_part {
  std::string_view name;
  double distribution::*value = nullptr;
  double percentile = -1;
};
std::span<const distribution_part> distribution_parts();

/// The sketches of one latency over all blocks: all of its samples.
histogram whole(const timeline& t, sparse_histogram time_block::*sketch);

} // namespace troupe::load_test::report
