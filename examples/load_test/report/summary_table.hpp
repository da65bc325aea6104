#pragma once

#include <string>

#include "troupe/examples/load_test/report/terminal.hpp"
#include "troupe/examples/load_test/report/test_report.hpp"

namespace troupe::load_test::report {

/// What is printed when a test is over: its figures, objectives, errors and remarks, or one line
/// per load of a sweep. Missed objectives, failures and spoilt results are red where there is
/// colour, and said in capitals anyway. Lines fit `style.width` where it is 60 or more. Ends with a
/// line feed.
std::string summary_table(const test_report& report, const terminal_style& style);

} // namespace troupe::load_test::report
