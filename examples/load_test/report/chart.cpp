#include "troupe/examples/load_test/report/chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/format.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::load_test::report {

namespace {

/// Small enough that its letters can be read when it is shrunk to a phone's width.
constexpr double width = 440, height = 250;
constexpr double left = 58, right = 14, top = 12, bottom = 40;
constexpr double plot_width = width - left - right, plot_height = height - top - bottom;

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", x);
  return text;
}

std::string color_class(int color) {
  return "c" + std::to_string(color % 6);
}

double x_of(const axis& a, double value) {
  return left + a.place(value) * plot_width;
}

double y_of(const axis& a, double value) {
  return top + (1 - a.place(value)) * plot_height;
}

std::string text_at(double x, double y, const char* kind, const std::string& text) {
  return "<text class=\"" + std::string{kind} + "\" x=\"" + number(x) + "\" y=\"" + number(y) +
         "\">" + html_text(text) + "</text>";
}

std::string line_at(const char* kind, double x1, double y1, double x2, double y2) {
  return "<line class=\"" + std::string{kind} + "\" x1=\"" + number(x1) + "\" y1=\"" + number(y1) +
         "\" x2=\"" + number(x2) + "\" y2=\"" + number(y2) + "\"/>";
}

/// Grid, ticks and the name of the x axis.
std::string frame(const axis& x, const axis& y, const std::string& x_title) {
  std::string out;
  for (auto& t : y.ticks()) {
    auto at = y_of(y, t.value);
    out += line_at(t.label.empty() ? "grid minor" : "grid", left, at, width - right, at);
    if (!t.label.empty())
      out += text_at(left - 6, at + 4, "tick y", t.label);
  }
  double last = -1e9;
  for (auto& t : x.ticks()) {
    auto at = x_of(x, t.value);
    out += line_at("grid minor", at, top, at, height - bottom);
    // Labels that would touch their neighbour stay out; 7 is about the width of a digit.
    auto half = 3.5 * static_cast<double>(columns(t.label));
    if (t.label.empty() || at - half < last + 6)
      continue;
    last = at + half;
    auto kind = at + half > width ? "tick end" : "tick x";
    out += text_at(std::min(at, width - 2), height - bottom + 16, kind, t.label);
  }
  out += line_at("axis", left, height - bottom, width - right, height - bottom);
  out += text_at(left + plot_width / 2, height - 5, "title x", x_title);
  return out;
}

std::string figure_around(const std::string& title, const std::string& legend,
                          const std::string& drawing, const std::string& hover) {
  return "<figure class=\"chart\"><figcaption><b>" + html_text(title) + "</b>" + legend +
         "</figcaption><svg viewBox=\"0 0 " + number(width) + " " + number(height) +
         "\" role=\"img\" aria-label=\"" + html_text(title) + "\" data-hover=\"" +
         html_text(hover) + "\">" + drawing + "<line class=\"cursor\" y1=\"" + number(top) +
         "\" y2=\"" + number(height - bottom) + "\"/></svg></figure>\n";
}

struct span {
  double low = INFINITY, high = -INFINITY;
  void hold(double x) {
    low = std::min(low, x);
    high = std::max(high, x);
  }
  bool empty() const { return low > high; }
};

/// What the page's script shows under the pointer: [[x in the drawing, head, [[class, name,
/// value]...]]].
std::string hover_of(const line_chart& chart, const axis& x) {
  std::map<double, std::pair<std::string, std::string>> at; // by x: head, rows
  auto unit = chart.x_is_time ? "" : " " + chart.x_title.substr(0, chart.x_title.find(';'));
  for (auto& s : chart.lines)
    for (auto& p : s.points) {
      if (!p.y)
        continue;
      auto& [head, rows] = at[p.x];
      head = chart.format_x(p.x) + unit + (p.label.empty() ? "" : " (" + p.label + ")");
      auto text = chart.format_y(*p.y);
      if (p.low && p.high)
        text += " (" + chart.format_y(*p.low) + " to " + chart.format_y(*p.high) + ")";
      rows += rows.empty() ? "[" : ",[";
      for (auto& part : {color_class(s.color), s.name}) {
        http::json::append_string(rows, part);
        rows += ',';
      }
      http::json::append_string(rows, text);
      rows += ']';
    }
  std::string out = "[";
  for (auto& [value, texts] : at) {
    out += (out.size() > 1 ? ",[" : "[") + number(x_of(x, value)) + ",";
    http::json::append_string(out, texts.first);
    out += ",[" + texts.second + "]]";
  }
  return out + "]";
}

std::string legend_of(const line_chart& chart) {
  std::string out;
  for (auto& s : chart.lines)
    out += " <span class=\"key " + color_class(s.color) + "\">" + html_text(s.name) + "</span>";
  for (auto& r : chart.references)
    out += " <span class=\"key bound\">" + html_text(r.name) + "</span>";
  return out;
}

std::string path_of(const series& s, const axis& x, const axis& y) {
  std::string d;
  bool drawing = false;
  for (auto& p : s.points) {
    if (!p.y) {
      drawing = false;
      continue;
    }
    d += (drawing ? "L" : "M") + number(x_of(x, p.x)) + " " + number(y_of(y, *p.y));
    drawing = true;
  }
  return "<path class=\"line " + color_class(s.color) + "\" d=\"" + d + "\"/>";
}

std::string band_of(const series& s, const axis& x, const axis& y) {
  std::string there, back;
  for (auto& p : s.points) {
    if (!p.low || !p.high)
      continue;
    there += (there.empty() ? "M" : "L") + number(x_of(x, p.x)) + " " + number(y_of(y, *p.high));
    back = "L" + number(x_of(x, p.x)) + " " + number(y_of(y, *p.low)) + back;
  }
  return there.empty()
             ? ""
             : "<path class=\"band " + color_class(s.color) + "\" d=\"" + there + back + "Z\"/>";
}

/// Dots where they are asked for, and where a point has no neighbour to draw a line to.
std::string dots_of(const series& s, const axis& x, const axis& y) {
  std::string out;
  for (size_t i = 0; i < s.points.size(); ++i) {
    auto& p = s.points[i];
    auto lonely =
        (i == 0 || !s.points[i - 1].y) && (i + 1 == s.points.size() || !s.points[i + 1].y);
    if (!p.y || !(s.marked || lonely))
      continue;
    out += "<circle class=\"dot " + color_class(s.color) + "\" cx=\"" + number(x_of(x, p.x)) +
           "\" cy=\"" + number(y_of(y, *p.y)) + "\" r=\"3.2\"/>";
    if (!p.label.empty())
      out += text_at(x_of(x, p.x) + 5, y_of(y, *p.y) - 6, "mark", p.label);
  }
  return out;
}

std::pair<axis, axis> axes_of(const line_chart& chart, const span& xs, const span& ys) {
  auto y = axis::fitting(ys.low, ys.high, chart.format_y);
  if (chart.x_is_time)
    return {axis::clock(chart.x_high.value_or(xs.high)), y};
  return {axis::linear(0, chart.x_high.value_or(xs.high), chart.format_x), y};
}

} // namespace

std::string draw(const line_chart& chart) {
  span xs, ys;
  for (auto& s : chart.lines)
    for (auto& p : s.points) {
      if (!p.y)
        continue;
      xs.hold(p.x);
      ys.hold(*p.y);
      if (p.high && *p.high < 3 * *p.y) // A band may be cut; it must not flatten the lines.
        ys.hold(*p.high);
    }
  if (xs.empty())
    return "";
  for (auto& r : chart.references)
    if (r.y < 4 * ys.high) // A bound far above would do the same.
      ys.hold(r.y);
  auto [x, y] = axes_of(chart, xs, ys);
  auto out = frame(x, y, chart.x_title);
  for (auto& s : chart.lines)
    out += band_of(s, x, y);
  for (auto& r : chart.references)
    if (r.y <= y.high())
      out += line_at("bound", left, y_of(y, r.y), width - right, y_of(y, r.y));
  if (chart.x_mark && *chart.x_mark < x.high()) {
    auto at = x_of(x, *chart.x_mark);
    out += line_at("bound", at, top, at, height - bottom) +
           text_at(at - 4, top + 10, "mark end", chart.x_mark_name);
  }
  for (auto& s : chart.lines)
    out += path_of(s, x, y) + dots_of(s, x, y);
  return figure_around(chart.title, legend_of(chart), out, hover_of(chart, x));
}

std::string draw_histogram(const std::string& title, const histogram& samples,
                           const std::vector<std::pair<std::string, double>>& marks, int color) {
  if (samples.count() == 0)
    return "";
  constexpr double nanoseconds_per_ms = 1e6;
  auto border = [](size_t bin) {
    return static_cast<double>(histogram_bins::lower(bin)) / nanoseconds_per_ms;
  };
  size_t first = 0, last = histogram_bins::count - 1;
  while (samples.at(first) == 0)
    ++first;
  while (samples.at(last) == 0)
    --last;
  auto low = std::max(border(first), 1e-3), high = std::max(border(last + 1), low * 1.05);
  auto x = high / low > 8 ? axis::logarithmic(low, high, format_ms)
                          : axis::linear(low, high, format_ms, false);
  // Bars of equal width on the axis: a bin's samples are spread over the bars that it touches, for
  // bins grow in steps and would show as a saw.
  auto bars = static_cast<size_t>(
      std::clamp(2 * std::sqrt(static_cast<double>(samples.count())), 12.0, 48.0));
  auto bar_width = plot_width / static_cast<double>(bars);
  std::vector<double> counts(bars);
  for (size_t bin = first; bin <= last; ++bin) {
    if (samples.at(bin) == 0)
      continue;
    auto from = x.place(border(bin)) * static_cast<double>(bars),
         to = std::max(x.place(border(bin + 1)) * static_cast<double>(bars), from + 1e-6);
    for (auto i = static_cast<size_t>(from); i < bars && static_cast<double>(i) < to; ++i) {
      auto shared =
          std::min(to, static_cast<double>(i + 1)) - std::max(from, static_cast<double>(i));
      counts[i] += static_cast<double>(samples.at(bin)) * shared / (to - from);
    }
  }
  auto total = static_cast<double>(samples.count());
  auto highest = *std::max_element(counts.begin(), counts.end()) / total;
  auto y = axis::linear(0, highest, format_percent);
  auto out = frame(x, y,
                   "latency, " + std::string{x.is_logarithmic() ? "logarithmic; " : ""} +
                       format_count(samples.count()) + " samples");
  std::string hover = "[";
  for (size_t i = 0; i < bars; ++i) {
    if (counts[i] <= 0)
      continue;
    auto from = left + bar_width * static_cast<double>(i);
    auto at = y_of(y, counts[i] / total);
    out += "<rect class=\"bar " + color_class(color) + "\" x=\"" + number(from + 0.4) + "\" y=\"" +
           number(at) + "\" width=\"" + number(bar_width - 0.8) + "\" height=\"" +
           number(height - bottom - at) + "\"/>";
    hover += (hover.size() > 1 ? ",[" : "[") + number(from + bar_width / 2) + ",";
    http::json::append_string(
        hover, format_ms(x.value(static_cast<double>(i) / static_cast<double>(bars))) + " to " +
                   format_ms(x.value(static_cast<double>(i + 1) / static_cast<double>(bars))));
    hover += ",[[\"" + color_class(color) + "\",\"share\",\"" + format_percent(counts[i] / total) +
             "\"]]]";
  }
  double labels_end = -1e9;
  for (auto& [name, value] : marks) {
    auto at = x_of(x, value);
    out += line_at("bound", at, top, at, height - bottom);
    if (at > labels_end + 4)
      out += text_at(at + 3, top + 9, "mark", name);
    labels_end = std::max(labels_end, at + 7 * static_cast<double>(name.size()));
  }
  std::string legend;
  for (auto& [name, value] : marks)
    legend += " <span class=\"note\">" + html_text(name) + " " + format_ms(value) + "</span>";
  return figure_around(title, legend, out, hover + "]");
}

} // namespace troupe::load_test::report
