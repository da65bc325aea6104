#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/report/confidence.hpp"
#include "troupe/examples/load_test/report/terminal.hpp"
#include "troupe/examples/load_test/report/test_report.hpp"

/// Says which differences between two tests are real.
///
/// Where both have repeats, the logarithms of their figures are compared by Welch's t-test: only
/// repeats show how much a figure moves from run to run. With a single run on a side, the blocks of
/// both sides speak instead (see confidence.hpp); what moves between runs is not in them, so that a
/// difference must also be 2 % or more.
///
/// Some thirty figures are tested at once; p-values are adjusted by Holm's method, so that two
/// tests of the same server show a false "real" anywhere in about 5 % of
/// comparisons at most.
namespace troupe::load_test::report {

struct figure_comparison {
  enum class verdict {
    real,      ///< The difference is more than chance.
    not_shown, ///< It may be chance.
    not_judged ///< Too little to say; `why` tells what is missing.
  };
  std::string name; ///< "ttft_ms.p99"; "failed_share".
  double a = 0, b = 0;
  std::optional<double> ratio;            ///< b / a; empty where a is 0.
  std::optional<interval> ratio_interval; ///< 95 %, of this figure alone.
  std::optional<double> p_value;          ///< Adjusted for the number of figures.
  verdict how = verdict::not_judged;
  bool b_is_better = false; ///< Means something only where the difference is real.
  std::string why;
};

/// Two points at the same load.
struct point_comparison {
  std::string load;
  bool by_repeats = false; ///< Else by the blocks within runs.
  std::vector<figure_comparison> figures;
};

struct comparison {
  std::vector<point_comparison> points;
  /// Settings that differ: name, value in A, value in B; "-" where it is absent. Untrusted.
  std::vector<std::array<std::string, 3>> settings;
  std::vector<std::string> remarks; ///< What weakens the comparison.
};

/// Compares point by point: those of the same load in two sweeps, else the only two there are.
/// Errors: ec::invalid_request when no load is common to both.
caf::expected<comparison> compare(const test_report& a, const test_report& b);

/// The comparison for a terminal: figures side by side, with ratio and verdict. The names are those
/// of the files. Ends with a line feed.
std::string comparison_table(const comparison& c, const std::string& name_a,
                             const std::string& name_b, const terminal_style& style);

} // namespace troupe::load_test::report
