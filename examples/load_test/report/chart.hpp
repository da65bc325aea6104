#pragma once

#include <optional>
#include <string>
#include <vector>

#include "troupe/examples/load_test/report/axis.hpp"
#include "troupe/examples/load_test/report/histogram.hpp"

/// Charts as SVG text, drawn here so that a report needs no script and no network to show them.
/// Colours are classes (c0, c1, ...) that the page's style sheet defines for light and dark.
namespace troupe::load_test::report {

/// One line of a chart.
struct series {
  struct point {
    double x = 0;
    std::optional<double> y;         ///< Empty: the line is broken here.
    std::optional<double> low, high; ///< A band around it.
    std::string label;               ///< Written beside the point.
  };
  std::string name;
  int color = 0;
  std::vector<point> points;
  bool marked = false; ///< Points are dots, not only the line's corners.
};

/// A bound: drawn across as a dashed line.
struct reference {
  std::string name;
  double y = 0;
  int color = 0;
};

struct line_chart {
  std::string title;
  std::string x_title;
  formatter format_x, format_y;
  std::vector<series> lines;
  std::vector<reference> references;
  bool x_is_time = false;       ///< Seconds since the begin.
  std::optional<double> x_high; ///< Where the x axis ends; else at the last point.
  /// A vertical line with a name, where it is set.
  std::optional<double> x_mark;
  std::string x_mark_name;
};

/// The chart as a figure with title, legend and drawing. Empty when no line has a point. All texts
/// may be untrusted.
std::string draw(const line_chart& chart);

/// How often latencies occurred, over a logarithmic axis where they span far, with marks at some
/// percentiles. Empty when nothing was recorded.
/// @param marks Name and value in milliseconds.
std::string draw_histogram(const std::string& title, const histogram& samples,
                           const std::vector<std::pair<std::string, double>>& marks, int color);

} // namespace troupe::load_test::report
