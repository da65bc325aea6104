#include "troupe/examples/load_test/report/html_charts.hpp"

#include <algorithm>
#include <array>

#include "troupe/examples/load_test/report/chart.hpp"
#include "troupe/examples/load_test/report/confidence.hpp"
#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/examples/load_test/report/format.hpp"

namespace troupe::load_test::report {

namespace {

constexpr std::array colored_percentiles{std::pair{50.0, 0}, std::pair{90.0, 1},
                                         std::pair{99.0, 2}};

std::string capital(std::string_view x) {
  std::string s{x};
  s.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(s.front())));
  return s;
}

/// The bounds that the objectives set for a latency.
std::vector<reference> bounds_of(const summary& s, std::string_view group) {
  std::vector<reference> all;
  for (auto& v : s.objectives)
    if (std::string{name_of(v.goal.what)} + "_ms" == group)
      all.push_back({to_string(v.goal), static_cast<double>(v.goal.at_most) / 1e6, 5});
  return all;
}

line_chart over_time(const timeline& t, std::string title, formatter format_y) {
  line_chart c;
  c.title = std::move(title);
  c.x_title = "time since the begin of the load";
  c.x_high = t.block_s * static_cast<double>(t.blocks.size());
  c.format_x = [](double s) { return format_clock(s); };
  if (t.block_s < 1)
    c.format_x = [](double s) { return format_ms(s * 1000); };
  c.format_y = std::move(format_y);
  c.x_is_time = true;
  return c;
}

/// Blocks taken together until a point of the chart has some samples to take a percentile of.
size_t blocks_to_a_point(const timeline& t, sparse_histogram time_block::*sketch) {
  auto samples = static_cast<double>(whole(t, sketch).count());
  auto blocks = static_cast<double>(std::max<size_t>(t.blocks.size(), 1));
  constexpr double wanted = 12;
  auto needed = samples > 0 ? wanted * blocks / samples : 1;
  return static_cast<size_t>(std::clamp(needed + 0.999, 1.0, std::max(blocks / 8, 1.0)));
}

std::string latency_over_time(const summary& s, const latency_group& g) {
  auto& t = s.over_time;
  auto chart = over_time(t, capital(g.what) + " over time", format_ms);
  chart.references = bounds_of(s, g.name);
  for (auto& [p, color] : colored_percentiles)
    chart.lines.push_back({percentile_name(p), color, {}, false});
  auto step = blocks_to_a_point(t, g.sketch);
  for (size_t i = 0; i < t.blocks.size(); i += step) {
    auto end = std::min(i + step, t.blocks.size());
    histogram h;
    for (auto k = i; k < end; ++k)
      (t.blocks[k].*g.sketch).add_to(h);
    auto middle = t.block_s * static_cast<double>(i + end) / 2;
    for (size_t k = 0; k < colored_percentiles.size(); ++k) {
      series::point point{middle, std::nullopt, std::nullopt, std::nullopt, ""};
      if (h.count() > 0)
        point.y = h.percentile(colored_percentiles[k].first) / 1e6;
      chart.lines[k].points.push_back(point);
    }
  }
  if (t.blocks.size() > t.within + 1) {
    chart.x_mark = t.block_s * static_cast<double>(t.within);
    chart.x_mark_name = "end of load";
  }
  return draw(chart);
}

struct counted {
  const char* name;
  int color;
  double (*value)(const time_block&);
};

/// Enough blocks to a point that a handful of requests ended in it: fewer would draw noise.
size_t blocks_to_a_count(const timeline& t) {
  double ended = 0;
  for (size_t i = 0; i < t.within; ++i)
    ended += static_cast<double>(t.blocks[i].completed + t.blocks[i].failed);
  auto blocks = static_cast<double>(std::max<size_t>(t.within, 1));
  constexpr double wanted = 5;
  auto needed = ended > 0 ? wanted * blocks / ended : 1;
  return static_cast<size_t>(std::clamp(needed + 0.999, 1.0, std::max(blocks / 8, 1.0)));
}

std::string counts_over_time(const summary& s, const std::string& title, size_t repeats,
                             bool per_second, const std::vector<counted>& what) {
  auto& t = s.over_time;
  auto chart = over_time(t, title, format_number);
  auto step = blocks_to_a_count(t);
  for (auto& w : what) {
    series line{w.name, w.color, {}, false};
    for (size_t i = 0; i < t.within; i += step) {
      auto end = std::min(i + step, t.within);
      double sum = 0;
      for (auto k = i; k < end; ++k)
        sum += w.value(t.blocks[k]);
      auto divisor = static_cast<double>(repeats * (end - i)) * (per_second ? t.block_s : 1);
      line.points.push_back({t.block_s * static_cast<double>(i + end) / 2, sum / divisor,
                             std::nullopt, std::nullopt, ""});
    }
    chart.lines.push_back(std::move(line));
  }
  return draw(chart);
}

std::string histogram_of(const summary& s, const latency_group& g, int color) {
  auto& d = s.*g.figures;
  return draw_histogram(capital(g.what) + ": histogram", whole(s.over_time, g.sketch),
                        {{"p50", d.p50}, {"p99", d.p99}}, color);
}

size_t index_of(std::string_view group, double percentile) {
  for (size_t i = 0; i < figures().size(); ++i)
    if (figures()[i].group == group && figures()[i].percentile == percentile)
      return i;
  return 0;
}

/// A point of a sweep with what all of its charts need.
struct measured_point {
  double load = 0;
  summary all;
  std::vector<std::optional<interval>> intervals;
};

series::point point_of(const measured_point& m, size_t figure_index, double x) {
  auto& f = figures()[figure_index];
  series::point p{x, std::nullopt, std::nullopt, std::nullopt, ""};
  if (f.present(m.all))
    p.y = f.of(m.all);
  if (auto& i = m.intervals[figure_index]; p.y && i) {
    p.low = std::max(i->low, 0.0);
    p.high = i->high;
  }
  return p;
}

std::string latency_over_load(const std::vector<measured_point>& points, const latency_group& g,
                              const std::string& x_title) {
  line_chart chart;
  chart.title = capital(g.what) + " over load";
  chart.x_title = x_title;
  chart.format_x = format_number;
  chart.format_y = format_ms;
  chart.references = bounds_of(points.front().all, g.name);
  for (auto& [p, color] : colored_percentiles) {
    series line{percentile_name(p), color, {}, true};
    for (auto& m : points)
      line.points.push_back(point_of(m, index_of(g.name, p), m.load));
    chart.lines.push_back(std::move(line));
  }
  return draw(chart);
}

std::string rates_over_load(const std::vector<measured_point>& points, const std::string& title,
                            const std::string& x_title,
                            const std::vector<std::tuple<const char*, const char*, int>>& rates) {
  line_chart chart;
  chart.title = title;
  chart.x_title = x_title;
  chart.format_x = format_number;
  chart.format_y = format_number;
  for (auto& [name, group, color] : rates) {
    series line{name, color, {}, true};
    for (auto& m : points)
      line.points.push_back(point_of(m, index_of(group, -1), m.load));
    chart.lines.push_back(std::move(line));
  }
  return draw(chart);
}

std::string latency_against_throughput(const std::vector<measured_point>& points,
                                       const latency_group& g, const std::string& load_title) {
  auto tokens = std::any_of(points.begin(), points.end(),
                            [](auto& m) { return m.all.output_tokens_per_s > 0; });
  line_chart chart;
  chart.title = capital(g.what) + " against throughput";
  chart.x_title =
      std::string{tokens ? "output tokens/s" : "requests/s"} + "; labels: " + load_title;
  chart.format_x = format_number;
  chart.format_y = format_ms;
  for (auto& [p, color] : colored_percentiles) {
    series line{percentile_name(p), color, {}, true};
    for (auto& m : points) {
      auto x = tokens ? m.all.output_tokens_per_s : m.all.requests_per_s;
      line.points.push_back(point_of(m, index_of(g.name, p), x));
      // One label to a load is enough.
      if (p == 99)
        line.points.back().label = format_number(m.load);
    }
    chart.lines.push_back(std::move(line));
  }
  return draw(chart);
}

} // namespace

std::string charts_of_point(const summary& s, size_t repeats) {
  std::string over, histograms;
  int color = 0;
  for (auto& g : latency_groups()) {
    // Time per output token says over time what the time between tokens says.
    if (!g.sketch || g.figures == &summary::tpot_ms)
      continue;
    over += latency_over_time(s, g);
    constexpr std::array colors{0, 3, 4};
    histograms += histogram_of(s, g, colors[static_cast<size_t>(color++) % colors.size()]);
  }
  if (s.output_tokens > 0)
    over += counts_over_time(s, "Output tokens per second", repeats, true,
                             {{"tokens/s", 3, [](auto& b) { return double(b.output_tokens); }}});
  std::vector<counted> requests{{"ended well", 0, [](auto& b) { return double(b.completed); }}};
  if (!s.objectives.empty())
    requests.push_back({"within objectives", 3, [](auto& b) { return double(b.good); }});
  if (s.failed > 0)
    requests.push_back({"failed", 2, [](auto& b) { return double(b.failed); }});
  over += counts_over_time(s, "Requests per second", repeats, true, requests);
  over += counts_over_time(s, "Requests in flight", repeats, false,
                           {{"in flight", 4, [](auto& b) { return b.active; }}});
  return "<div class=\"charts\">\n" + over + histograms + "</div>\n";
}

std::string charts_of_sweep(const test_report& report) {
  std::vector<measured_point> points;
  for (auto& p : report.points)
    points.push_back({load_of(p, report.swept), combined(p), confidence_intervals(p)});
  auto x_title = std::string{report.swept == "users" ? "users" : "asked requests/s"};
  std::string out;
  for (auto& g : latency_groups())
    if (g.sketch && g.figures != &summary::tpot_ms)
      out += latency_over_load(points, g, x_title);
  out += rates_over_load(points, "Output tokens per second over load", x_title,
                         {{"tokens/s", "output_tokens_per_s", 3}});
  std::vector<std::tuple<const char*, const char*, int>> rates{{"ended well", "requests_per_s", 0}};
  if (!points.front().all.objectives.empty())
    rates.emplace_back("within objectives", "goodput_requests_per_s", 3);
  out += rates_over_load(points, "Requests per second over load", x_title, rates);
  for (auto& g : latency_groups())
    if (g.sketch && g.figures != &summary::tpot_ms)
      out += latency_against_throughput(points, g, x_title);
  return "<div class=\"charts\">\n" + out + "</div>\n";
}

} // namespace troupe::load_test::report
