#pragma once

#include <optional>
#include <string>
#include <vector>

#include "troupe/examples/load_test/report/statistics.hpp"

namespace troupe::load_test::report {

/// One load, measured once or several times.
struct load_point {
  std::vector<summary> repeats; ///< At least one.
};

/// The highest load that keeps the objectives, as a search found it.
struct search_answer {
  std::optional<double> highest; ///< In the unit of `test_report::swept`; empty: none kept them.
  std::string note;              ///< How exact it is, or why there is none.
};

/// Everything that a test leaves behind; all reports are made of it. One point with one repeat is a
/// plain run.
struct test_report {
  std::vector<load_point> points; ///< At least one; a sweep's in the order of their load.
  std::string swept; ///< "rate" or "users"; empty with a single point that is no sweep.
  std::optional<search_answer> search;

  bool is_sweep() const { return !swept.empty() || points.size() > 1; }
};

/// The repeats as one summary: figures are means over the repeats, a maximum is the maximum of all,
/// counts are sums, an objective is met when each repeat met it (`measured_ms` is the worst),
/// remarks say to which repeat they belong, and blocks of the same time are added up.
/// @pre there is a repeat.
summary combined(const load_point& point);

/// The load as a number: the asked rate in a sweep over rates, else the users.
double load_of(const load_point& point, const std::string& swept);

} // namespace troupe::load_test::report
