#include "troupe/examples/load_test/report/html_report.hpp"

#include <ctime>

#include "troupe/examples/load_test/report/confidence.hpp"
#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/examples/load_test/report/format.hpp"
#include "troupe/examples/load_test/report/html_charts.hpp"
#include "troupe/examples/load_test/report/html_page.hpp"

namespace troupe::load_test::report {

namespace {

std::string date_text(int64_t unix_ms) {
  auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm utc{};
  char text[64];
  if (!gmtime_r(&seconds, &utc) ||
      std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0)
    return "";
  return text;
}

std::string header_of(const run_description& what, const std::string& load) {
  auto out = "<header><h1>" + html_text(load) + "</h1>\n<p>" + html_text(what.url) + " &middot; " +
             html_text(what.dialect);
  if (!what.model.empty())
    out += " &middot; " + html_text(what.model);
  return out + "</p>\n<p>troupe-load " + html_text(what.version) + " &middot; " +
         date_text(what.started_at_unix_ms) + "</p></header>\n";
}

std::string remarks_of(const std::vector<remark>& all) {
  std::string out;
  for (auto& r : all) {
    auto bad = r.how == remark::grade::spoilt;
    out += std::string{"<div class=\"remark "} + (bad ? "spoilt" : "warning") + "\"" +
           (bad ? " role=\"alert\">Spoilt result. " : ">") + html_text(r.text) + "</div>\n";
  }
  return out;
}

std::string card(const std::string& title, const std::string& value, const std::string& small = "",
                 bool bad = false) {
  return "<div class=\"box\"><span>" + title + "</span><b" + (bad ? " class=\"bad\"" : "") + ">" +
         html_text(value) + "</b><small>" + html_text(small) + "</small></div>\n";
}

/// Cards for the figures that are looked at first. Each has its 95 % interval where there is one.
std::string cards_of(const load_point& point, const summary& s) {
  auto intervals = confidence_intervals(point);
  auto range = [&](std::string_view name, auto&& format) -> std::string {
    for (size_t i = 0; i < intervals.size(); ++i)
      if (figures()[i].name() == name && intervals[i])
        return format(std::max(intervals[i]->low, 0.0)) + " to " + format(intervals[i]->high);
    return "";
  };
  std::string out = "<div class=\"cards\">\n";
  out +=
      card("Requests/s", format_number(s.requests_per_s), range("requests_per_s", format_number));
  if (!s.objectives.empty())
    out += card("Goodput, requests/s", format_number(s.goodput_requests_per_s),
                range("goodput_requests_per_s", format_number),
                s.goodput_requests_per_s < 0.9 * s.requests_per_s);
  if (s.output_tokens > 0)
    out += card("Output tokens/s", format_number(s.output_tokens_per_s),
                range("output_tokens_per_s", format_number));
  for (auto& [group, title] :
       {std::pair{"ttft_ms", "First token"}, std::pair{"itl_ms", "Between tokens"},
        std::pair{"e2e_ms", "Whole latency"}})
    for (auto& part : distribution_parts())
      for (auto& g : latency_groups())
        if (g.name == group && (part.name == "p50" || part.name == "p99") &&
            (s.*g.figures).count > 0)
          out += card(std::string{title} + ", " + std::string{part.name},
                      format_ms(s.*g.figures.*part.value),
                      range(std::string{group} + "." + std::string{part.name}, format_ms));
  out += card("Failed requests", format_count(s.failed), "of " + format_count(s.requests),
              s.failed > 0);
  return out + "</div>\n<p class=\"note\">In small print the 95 % interval" +
         (point.repeats.size() > 1 ? ", over " + std::to_string(point.repeats.size()) +
                                         " repeats, whose mean each figure is."
                                   : std::string{", from the blocks of this one run."}) +
         " Latencies count from the scheduled send.</p>\n";
}

std::string objectives_of(const summary& s) {
  if (s.objectives.empty())
    return "";
  std::string out = "<h2>Objectives</h2>\n<div class=\"box scroll\"><table><tr><th>Objective</th>"
                    "<th>Measured</th><th>Verdict</th><th></th></tr>\n";
  for (auto& v : s.objectives)
    out += "<tr><td><code>" + to_string(v.goal) + "</code></td><td>" +
           (v.measured_ms ? format_ms(*v.measured_ms) : "no value") + "</td><td class=\"" +
           (v.met ? "good\">&#10003; met" : "bad\">&#10007; missed") + "</td><td class=\"why\">" +
           html_text(v.why) + "</td></tr>\n";
  return out + "</table></div>\n";
}

std::string latencies_of(const summary& s) {
  std::string rows;
  for (auto& g : latency_groups()) {
    auto& d = s.*g.figures;
    if (d.count == 0)
      continue;
    rows += "<tr><td>" + std::string{g.what} + "</td>";
    for (auto& part : distribution_parts())
      rows += "<td>" + format_ms(d.*part.value) + "</td>";
    rows += "<td>" + format_count(d.count) + "</td></tr>\n";
  }
  if (rows.empty())
    return "";
  std::string head = "<tr><th></th>";
  for (auto& part : distribution_parts())
    head += "<th>" + std::string{part.name} + "</th>";
  return "<h2>Latencies</h2>\n<div class=\"box scroll\"><table class=\"figures\">" + head +
         "<th>samples</th></tr>\n" + rows + "</table></div>\n";
}

std::string errors_of(const summary& s) {
  if (s.failed == 0)
    return "";
  std::string out = "<h2>Errors</h2>\n<div class=\"box scroll\"><table><tr><th>Kind</th>"
                    "<th>Requests</th><th style=\"width:60%\">Share of all requests</th></tr>\n";
  for (size_t i = 0; i < s.by_outcome.size(); ++i) {
    auto kind = static_cast<outcome>(i);
    if (kind == outcome::ok || kind == outcome::cancelled || s.by_outcome[i] == 0)
      continue;
    auto share = static_cast<double>(s.by_outcome[i]) / static_cast<double>(s.requests);
    char width[32];
    std::snprintf(width, sizeof width, "%.2f", share * 100);
    out += std::string{"<tr><td><code>"} + name_of(kind) + "</code></td><td>" +
           format_count(s.by_outcome[i]) + "</td><td>" + format_percent(share) +
           "<div class=\"share\" style=\"width:" + width + "%\"></div></td></tr>\n";
  }
  out += "</table>";
  constexpr size_t most = 20;
  for (size_t i = 0; i < std::min(most, s.failure_texts.size()); ++i)
    out += std::string{"<p><code>"} + name_of(s.failure_texts[i].first) + "</code> <code>" +
           html_text(std::string_view{s.failure_texts[i].second}.substr(0, 500)) + "</code></p>\n";
  return out + "</div>\n";
}

std::string row(const std::string& name, const std::string& value) {
  return "<tr><td>" + html_text(name) + "</td><td>" + html_text(value) + "</td></tr>\n";
}

std::string health_of(const summary& s) {
  auto& late = s.send_lateness_ms;
  auto out = std::string{"<h2>The load generator itself</h2>\n<div class=\"box\"><table "
                         "class=\"settings\">"};
  out += row("verdict",
             spoilt(s.remarks) ? "it spoilt the result, see above" : "it kept out of the way");
  out += row("workers", std::to_string(s.workers));
  out += row("CPU of a worker", format_percent(s.worker_cpu_share) + " (spoilt above 90 %)");
  if (late.count > 0)
    out += row("send lateness", "p50 " + format_ms(late.p50) + ", p99 " + format_ms(late.p99) +
                                    ", max " + format_ms(late.max));
  return out + "</table></div>\n";
}

/// The load and what was measured belong to a point, not to a sweep.
std::string settings_of(const run_description& what, const summary* point) {
  auto out = std::string{"<h2>Settings</h2>\n<div class=\"box\"><table class=\"settings\">"};
  out += row("URL", what.url) + row("dialect", what.dialect) + row("model", what.model);
  if (point)
    out += row("load", what.load) + row("measured", format_number(point->measured_s) + " s");
  out += row("seed", std::to_string(what.seed));
  for (auto& [name, value] : what.settings)
    out += row(name, value);
  return out + "</table></div>\n";
}

std::string point_sections(const load_point& point, const summary& s) {
  return objectives_of(s) + latencies_of(s) + "<h2>Charts</h2>\n" +
         charts_of_point(s, point.repeats.size()) + errors_of(s) + health_of(s);
}

std::string one_point(const test_report& report) {
  auto& point = report.points.front();
  auto s = combined(point);
  auto out = header_of(s.what, s.what.load) + remarks_of(s.remarks) + cards_of(point, s);
  out += point_sections(point, s) + settings_of(s.what, &s);
  return html_page("troupe-load: " + s.what.load, out);
}

std::string sweep_table(const test_report& report, const std::vector<summary>& all) {
  std::string out =
      "<div class=\"box scroll\"><table class=\"figures\"><tr><th>" +
      std::string{report.swept == "users" ? "users" : "rate/s"} +
      "</th><th>requests/s</th><th>goodput/s</th><th>tokens/s</th><th>first token p50</th>"
      "<th>p99</th><th>between tokens p50</th><th>p99</th><th>whole p99</th><th>failed</th>"
      "<th>objectives</th></tr>\n";
  auto cell = [](const std::string& text, const char* kind = "") {
    return std::string{"<td class=\""} + kind + "\">" + text + "</td>";
  };
  auto ms = [&](const distribution& d, double distribution::*part) {
    return cell(d.count > 0 ? format_ms(d.*part) : "-");
  };
  for (size_t i = 0; i < all.size(); ++i) {
    auto& s = all[i];
    auto met = objectives_met(s);
    out += "<tr>" + cell(format_number(load_of(report.points[i], report.swept)));
    out += cell(format_number(s.requests_per_s)) + cell(format_number(s.goodput_requests_per_s));
    out += cell(format_number(s.output_tokens_per_s)) + ms(s.ttft_ms, &distribution::p50);
    out += ms(s.ttft_ms, &distribution::p99) + ms(s.itl_ms, &distribution::p50);
    out += ms(s.itl_ms, &distribution::p99) + ms(s.e2e_ms, &distribution::p99);
    out += cell(format_count(s.failed), s.failed > 0 ? "bad" : "");
    out += s.objectives.empty() ? cell("-") : cell(met ? "met" : "missed", met ? "good" : "bad");
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

/// Only what spoils a load goes to the top of a sweep; the rest stands with its load.
std::string sweep_remarks(const test_report& report, const std::vector<summary>& all) {
  std::vector<remark> grave;
  for (size_t i = 0; i < all.size(); ++i)
    for (auto& r : all[i].remarks)
      if (r.how == remark::grade::spoilt)
        grave.push_back({r.how, "At " + report.swept + " " +
                                    format_number(load_of(report.points[i], report.swept)) + ": " +
                                    r.text});
  return remarks_of(grave);
}

std::string sweep_cards(const test_report& report, const std::vector<summary>& all) {
  std::string out = "<div class=\"cards\">\n";
  if (auto& found = report.search)
    out += card("Highest " + html_text(report.swept) + " within objectives",
                found->highest ? format_number(*found->highest) : "none", found->note,
                !found->highest);
  auto best = [&](double summary::*figure) {
    size_t k = 0;
    for (size_t i = 0; i < all.size(); ++i)
      if (all[i].*figure > all[k].*figure)
        k = i;
    return std::pair{format_number(all[k].*figure),
                     "at " + report.swept + " " +
                         format_number(load_of(report.points[k], report.swept))};
  };
  for (auto& [title, figure] :
       {std::pair{"Most output tokens/s", &summary::output_tokens_per_s},
        std::pair{"Most requests/s", &summary::requests_per_s},
        std::pair{"Best goodput, requests/s", &summary::goodput_requests_per_s}}) {
    auto [value, where] = best(figure);
    out += card(title, value, where);
  }
  uint64_t failed = 0, requests = 0;
  for (auto& s : all) {
    failed += s.failed;
    requests += s.requests;
  }
  out += card("Failed requests", format_count(failed), "of " + format_count(requests), failed > 0);
  return out + "</div>\n";
}

std::string sweep(const test_report& report) {
  std::vector<summary> all;
  for (auto& p : report.points)
    all.push_back(combined(p));
  auto& what = all.front().what;
  auto title = "Sweep over " + std::to_string(all.size()) +
               (report.swept == "users" ? " numbers of users" : " request rates");
  auto out = header_of(what, title) + sweep_remarks(report, all) + sweep_cards(report, all);
  out += "<h2>Loads</h2>\n" + sweep_table(report, all);
  out += "<h2>Over load</h2>\n" + charts_of_sweep(report);
  out += "<h2>Each load</h2>\n";
  for (size_t i = 0; i < all.size(); ++i)
    out += "<details><summary>" + html_text(all[i].what.load) + "</summary>\n" +
           remarks_of(all[i].remarks) + cards_of(report.points[i], all[i]) +
           point_sections(report.points[i], all[i]) + "</details>\n";
  out += settings_of(what, nullptr);
  return html_page("troupe-load: " + title, out);
}

} // namespace

std::string to_html(const test_report& report) {
  return report.is_sweep() ? sweep(report) : one_point(report);
}

} // namespace troupe::load_test::report
