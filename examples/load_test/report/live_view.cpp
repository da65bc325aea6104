#include "troupe/examples/load_test/report/live_view.hpp"

#include <algorithm>

#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/format.hpp"

namespace troupe::load_test::report {

namespace {

constexpr const char* erase_line = "\x1b[K";
constexpr const char* erase_below = "\x1b[J";

/// How much is done, 0..1.
double share_of(const live_snapshot& now) {
  auto ended = static_cast<double>(now.completed + now.failed);
  auto by_requests = now.requests > 0 ? ended / static_cast<double>(now.requests) : 0;
  auto by_time = now.duration_s > 0 ? now.elapsed_s / now.duration_s : 0;
  return std::clamp(std::max(by_requests, by_time), 0.0, 1.0);
}

std::string clock(const live_snapshot& now) {
  auto text = format_clock(now.elapsed_s);
  return now.duration_s > 0 ? text + " of " + format_clock(now.duration_s) : text;
}

std::string done(const live_snapshot& now) {
  auto text = format_count(now.completed);
  return now.requests > 0 ? text + " of " + format_count(now.requests) + " done" : text + " done";
}

std::string latency(const char* name, const live_snapshot::latency& x) {
  if (x.count == 0)
    return std::string{name} + " -";
  return std::string{name} + " p50 " + format_ms(x.p50_ms) + " p99 " + format_ms(x.p99_ms);
}

std::string latencies(const live_snapshot& now) {
  return latency("ttft", now.ttft) + "   " + latency("itl", now.itl);
}

std::string rates(const live_snapshot& now) {
  return format_number(now.requests_per_s) + " requests/s   " +
         format_number(now.output_tokens_per_s) + " tokens/s";
}

std::string bar(double share, size_t width) {
  auto full = static_cast<size_t>(share * static_cast<double>(width));
  return "[" + std::string(full, '#') + std::string(width - full, '.') + "]";
}

} // namespace

std::vector<std::string> live_lines(const live_snapshot& now, const terminal_style& style) {
  auto share = share_of(now);
  auto bar_width = std::clamp<size_t>(style.width / 3, 8, 40);
  auto failed = format_count(now.failed) + " failed";
  std::vector<std::string> lines{
      bar(share, bar_width) + " " + std::to_string(static_cast<int>(share * 100)) + " %  " +
          clock(now) + "  " + style.dim(terminal_text(now.phase, 60)),
      format_count(now.active) + " active   " + done(now) + "   " +
          (now.failed > 0 ? style.red(failed) : failed) + "   " + rates(now),
      style.dim("last " + format_number(std::max(now.recent_s, 0.1)) + " s  ") + latencies(now)};
  // A line that fills the last column leaves some terminals on the next row.
  for (auto& line : lines)
    line = cut_to_columns(line, style.width - 1);
  return lines;
}

std::string live_line(const live_snapshot& now) {
  return clock(now) + "  " + terminal_text(now.phase, 60) + "  " + format_count(now.active) +
         " active  " + done(now) + "  " + format_count(now.failed) + " failed  " + rates(now) +
         "  " + latencies(now);
}

std::string back_to_first(const std::vector<size_t>& drawn, size_t width) {
  size_t rows = 0;
  for (auto columns : drawn)
    rows += std::max<size_t>(1, (columns + width - 1) / width);
  // The cursor stands at the end of the last line.
  if (rows <= 1)
    return "\r";
  return "\r\x1b[" + std::to_string(rows - 1) + "A";
}

live_view::live_view(std::FILE* out, bool quiet, double seconds_between_lines)
    : out_(out), quiet_(quiet), seconds_between_lines_(seconds_between_lines),
      next_line_s_(seconds_between_lines) {}

live_view::~live_view() {
  clear();
}

void live_view::show(const live_snapshot& now) {
  if (quiet_)
    return;
  auto style = style_of(out_);
  std::string text;
  if (style.terminal) {
    if (!drawn_.empty())
      text += back_to_first(drawn_, style.width);
    drawn_.clear();
    for (auto& line : live_lines(now, style)) {
      text += (drawn_.empty() ? "" : "\n") + line + erase_line;
      drawn_.push_back(columns(line));
    }
    text += erase_below;
  } else {
    // Another run of a sweep begins at 0 again.
    if (now.elapsed_s < shown_s_)
      next_line_s_ = seconds_between_lines_;
    shown_s_ = now.elapsed_s;
    if (now.elapsed_s < next_line_s_)
      return;
    next_line_s_ = now.elapsed_s + seconds_between_lines_;
    text = live_line(now) + "\n";
  }
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

void live_view::note(const std::string& text) {
  clear();
  if (quiet_)
    return;
  auto line = terminal_text(text) + "\n";
  std::fwrite(line.data(), 1, line.size(), out_);
  std::fflush(out_);
}

void live_view::clear() {
  if (drawn_.empty())
    return;
  auto text = back_to_first(drawn_, style_of(out_).width) + erase_below;
  drawn_.clear();
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

} // namespace troupe::load_test::report
