#pragma once

#include <string>

#include "troupe/examples/load_test/report/test_report.hpp"

namespace troupe::load_test::report {

/// The report as one self-contained HTML file: headline figures, objectives, what spoilt the result
/// (in red), latencies over time and, in a sweep, over the load and against throughput, histograms,
/// errors, the generator's health and all settings. It loads nothing and opens without a network.
std::string to_html(const test_report& report);

} // namespace troupe::load_test::report
