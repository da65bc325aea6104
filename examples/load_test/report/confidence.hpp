#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/examples/load_test/report/test_report.hpp"

/// How far a figure would move if the test were run again.
///
/// Over repeats: Student's t on the repeats' figures. Repeats are independent and few (3 to 10),
/// where a bootstrap is known to give intervals that are too narrow.
///
/// Within one run: neighbouring requests share the server's state, so that requests cannot be drawn
/// one by one. Whole blocks of time are drawn with replacement instead (Efron & Tibshirani, "An
/// Introduction to the Bootstrap", ch. 8), and where even the blocks are correlated the standard
/// error grows by the square root of their integrated autocorrelation time (Sokal, "Monte Carlo
/// Methods in Statistical Mechanics", 1996). What differs between runs (a restart, a neighbour on
/// the host) cannot be seen within one: repeats are better.
namespace troupe::load_test::report {

struct interval {
  double low = 0;
  double high = 0;
};

/// mean -+ t * s / sqrt(n); empty with less than two values.
std::optional<interval> student_interval(std::span<const double> values, double level = 0.95);

/// How well one figure is known, on the scale of logarithms, where a ratio is a difference.
struct log_estimate {
  double log_value = 0;
  double standard_error = 0;
  double degrees_of_freedom = 0;
};

/// Estimates of every figure (in the order of `figures()`) from the blocks of some runs taken
/// together. Empty for a figure that is zero, has no blocks (the send lateness), is a maximum,
/// which no bootstrap can judge, or whose run is too short: less than 8 independent blocks, or less
/// than 10 samples beyond a percentile. Deterministic: the same runs give the same estimates.
std::vector<std::optional<log_estimate>> estimate_from_blocks(std::span<const summary> runs);

/// 95 % intervals for every figure, in the order of `figures()`: over the repeats where there are
/// at least two, else within the run. A maximum has none.
std::vector<std::optional<interval>> confidence_intervals(const load_point& point);

/// Two-sided p-value of Student's t.
double student_p_value(double t, double degrees_of_freedom);

} // namespace troupe::load_test::report
