#pragma once

#include <string>
#include <vector>

#include "troupe/examples/load_test/report/live_counters.hpp"
#include "troupe/examples/load_test/report/terminal.hpp"

namespace troupe::load_test::report {

/// Shows how a test goes. On a terminal a few lines are redrawn in place, fitted to its present
/// width; elsewhere one plain line is written every few seconds; nothing when quiet. One thread.
class live_view {
public:
  /// @param out Usually stderr, so that what is printed on stdout stays clean. Must outlive the
  /// view.
  explicit live_view(std::FILE* out, bool quiet = false, double seconds_between_lines = 5);
  ~live_view();
  live_view(const live_view&) = delete;
  live_view& operator=(const live_view&) = delete;

  /// Call it some four times a second, at least once in `seconds_between_lines`.
  void show(const live_snapshot& now);

  /// Prints a line that stays, above the view. The text may be untrusted.
  void note(const std::string& text);

  /// Wipes the view, so that what is printed next starts on a clean line.
  void clear();

private:
  std::FILE* out_;
  bool quiet_;
  double seconds_between_lines_;
  double next_line_s_ = 0;
  double shown_s_ = 0;
  std::vector<size_t> drawn_; ///< Columns of each line that is on the screen.
};

/// The lines of the view on a terminal, none wider than `style.width`.
std::vector<std::string> live_lines(const live_snapshot& now, const terminal_style& style);

/// The same on one line, without colour.
std::string live_line(const live_snapshot& now);

/// What puts the cursor back on the first of some drawn lines, where a terminal that is now `width`
/// columns wide has wrapped those that were wider.
std::string back_to_first(const std::vector<size_t>& drawn, size_t width);

} // namespace troupe::load_test::report
