#pragma once

#include <string>

#include "troupe/examples/load_test/report/test_report.hpp"

/// The charts of the HTML report: which figures go into which chart.
namespace troupe::load_test::report {

/// Latencies, throughput, requests in flight and failures over time, and the histograms, of one
/// load.
/// @param s As `combined` makes it.
/// @param repeats How many runs it is made of: counts over time are divided by it.
std::string charts_of_point(const summary& s, size_t repeats);

/// Latencies and throughput over the load, and latencies against throughput, with 95 % bands.
std::string charts_of_sweep(const test_report& report);

} // namespace troupe::load_test::report
