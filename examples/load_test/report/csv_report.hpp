#pragma once

#include <ostream>

#include "troupe/examples/load_test/report/test_report.hpp"

/// CSV (RFC 4180, LF at line ends) for spreadsheets and scripts. A figure that does not exist is an
/// empty field. Whether everything was written is for the owner of the stream to check.
namespace troupe::load_test::report {

/// The names of the columns of `write_requests_csv`.
void write_requests_csv_header(std::ostream& out);

/// One line per request, unmeasured ones too, in the order of the run. Times in milliseconds:
/// `scheduled_ms` and `end_ms` since the run's begin, the latencies as in `summary`; of a request's
/// gaps between tokens the median and the longest.
/// @param run, repeat Put in front of each line, to tell a test's runs apart; from 1.
void write_requests_csv(std::ostream& out, const run_results& results, size_t run, size_t repeat);

/// One line per load: its settings, counts, every figure (means over the repeats), errors by kind,
/// and whether the objectives are met and the figures to be trusted.
void write_summary_csv(std::ostream& out, const test_report& report);

} // namespace troupe::load_test::report
