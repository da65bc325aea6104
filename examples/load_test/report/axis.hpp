#pragma once

#include <functional>
#include <string>
#include <vector>

namespace troupe::load_test::report {

/// Turns a value into its label.
using formatter = std::function<std::string(double)>;

/// One axis of a chart: the values that it spans and those that are labelled.
class axis {
public:
  struct tick {
    double value = 0;
    std::string label; ///< Empty: a mark alone.
  };

  /// Ticks at 1, 2 or 5 times a power of ten, `about` of them. Spans whole steps where `rounded`,
  /// else just the values.
  static axis linear(double low, double high, const formatter& label, bool rounded = true,
                     int about = 5);
  /// From 0 to a time in seconds, with the steps of a clock (15 s, 30 s, 1 min).
  static axis clock(double high_s, int about = 5);
  /// Powers of ten, with marks (or labels, where there are few powers) at 2 and 5 times these.
  /// @pre 0 < low
  static axis logarithmic(double low, double high, const formatter& label);
  /// Logarithmic where the values span more than `log_from` times, and all are above 0.
  static axis fitting(double low, double high, const formatter& label, double log_from = 20);

  double low() const { return low_; }
  double high() const { return high_; }
  bool is_logarithmic() const { return logarithmic_; }
  const std::vector<tick>& ticks() const { return ticks_; }

  /// Where a value lies, 0 at the low end and 1 at the high one; clamped.
  double place(double value) const;
  /// The value at a place.
  double value(double place) const;

private:
  double low_ = 0, high_ = 1;
  bool logarithmic_ = false;
  std::vector<tick> ticks_;
};

} // namespace troupe::load_test::report
