#pragma once

#include <vector>

#include "troupe/examples/load_test/report/histogram.hpp"

namespace troupe::load_test::report {

/// One stretch of a run. Latencies of a request stand where they happened: the time to first token
/// and the whole latency at the scheduled send, the times between tokens where the later one came.
struct time_block {
  sparse_histogram ttft, itl, tpot, e2e;
  uint64_t output_tokens = 0; ///< That arrived in it, of all requests; so are the next three.
  uint64_t completed = 0;     ///< Requests that ended well in it.
  uint64_t good = 0;          ///< Of these, the ones that met every objective.
  uint64_t failed = 0;
  double active = 0; ///< Requests in flight, averaged over the block.
  /// `completed` and `good` with each request spread evenly over the time from its send to its end:
  /// what a rate's interval is drawn from. Users in step end all at once, which says nothing of how
  /// steady the rate is.
  double completed_spread = 0, good_spread = 0;
};

/// A run cut into equal stretches: what is plotted over time, and what a bootstrap draws from,
/// since neighbouring requests are not independent. The sketches of all blocks add up to all
/// samples.
struct timeline {
  double block_s = 1;
  /// Of `blocks`, those wholly within the measured time; the ones behind saw the last answers end,
  /// so no rate is taken from them.
  size_t within = 0;
  std::vector<time_block> blocks;
};

/// Cuts a run: at least 1/10 s to a block, and 64 blocks at most within the measured time.
timeline make_timeline(const run_results& run, const std::vector<objective>& objectives);

/// True when a request that ended well kept every bound, its own percentile taken for `itl`. A
/// latency that it does not have (no gap between tokens) keeps its bound, save for a first token
/// that never came.
bool meets(const run_results& run, const request_record& request,
           const std::vector<objective>& objectives);

} // namespace troupe::load_test::report
