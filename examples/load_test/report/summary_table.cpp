#include "troupe/examples/load_test/report/summary_table.hpp"

#include <algorithm>

#include "troupe/examples/load_test/report/confidence.hpp"
#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/figures.hpp"
#include "troupe/examples/load_test/report/format.hpp"
#include "troupe/examples/load_test/report/text_table.hpp"

namespace troupe::load_test::report {

namespace {

using cells = std::vector<std::string>;

std::string head(const run_description& what, const terminal_style& style) {
  auto line = "troupe-load " + terminal_text(what.dialect, 40) + " " + terminal_text(what.url, 200);
  if (!what.model.empty())
    line += ", model " + terminal_text(what.model, 100);
  return style.bold(cut_to_columns(line, style.width)) + "\n";
}

std::string requests_text(const summary& s, const terminal_style& style) {
  auto text = format_count(s.requests) + " measured, " + format_count(s.completed) + " ok";
  auto cancelled = s.requests - s.completed - s.failed;
  if (cancelled > 0)
    text += ", " + format_count(cancelled) + " cancelled";
  if (s.failed == 0)
    return text;
  std::string failed;
  for (size_t i = 0; i < s.by_outcome.size(); ++i) {
    auto kind = static_cast<outcome>(i);
    if (kind != outcome::ok && kind != outcome::cancelled && s.by_outcome[i] > 0)
      failed += (failed.empty() ? "" : ", ") + format_count(s.by_outcome[i]) + " " + name_of(kind);
  }
  return text + ", " + style.red(format_count(s.failed) + " FAILED") + " (" + failed + ")";
}

std::string rates(const load_point& point, const summary& s, const terminal_style& style) {
  auto intervals = confidence_intervals(point);
  std::string out;
  for (size_t i = 0; i < intervals.size(); ++i) {
    auto& f = figures()[i];
    if (!f.is_rate())
      continue;
    auto title = f.rate == &summary::output_tokens_per_s ? "output tokens/s"
                 : f.rate == &summary::requests_per_s    ? "requests/s"
                                                         : "goodput requests/s";
    auto line = "  " + padded_right(title, 18) + "  " + padded_left(format_number(f.of(s)), 8);
    if (intervals[i])
      line += "  " + style.dim("95 %: " + format_number(intervals[i]->low) + " to " +
                               format_number(intervals[i]->high));
    out += cut_to_columns(line, style.width) + "\n";
  }
  return out;
}

std::string latencies(const summary& s, const terminal_style& style) {
  // The parts that matter most come first, since a narrow terminal shows fewer.
  std::vector<cells> rows{{"", "p50", "p90", "p95", "p99", "p99.9", "max", "mean", "samples"}};
  for (auto& g : latency_groups()) {
    auto& d = s.*g.figures;
    if (d.count == 0)
      continue;
    rows.push_back({std::string{g.brief}, format_ms(d.p50), format_ms(d.p90), format_ms(d.p95),
                    format_ms(d.p99), format_ms(d.p99_9), format_ms(d.max), format_ms(d.mean),
                    format_count(d.count)});
  }
  if (rows.size() == 1)
    return "";
  return "\n" + aligned(rows, style.width);
}

std::string objectives(const summary& s, const terminal_style& style) {
  std::string out;
  for (auto& v : s.objectives) {
    auto line = to_string(v.goal) + ": " +
                (v.measured_ms ? format_ms(*v.measured_ms) : std::string{"no value"});
    if (!v.why.empty())
      line += "; " + v.why;
    out += "  " + (v.met ? style.green("met   ") : style.red("MISSED")) + "  " +
           wrapped(line, 10, style.width);
  }
  return out.empty() ? "" : "\n" + out;
}

std::string remarks(const std::vector<remark>& all, const terminal_style& style) {
  std::string out;
  for (auto& r : all) {
    auto is_spoilt = r.how == remark::grade::spoilt;
    auto text = wrapped((is_spoilt ? "SPOILT  " : "note    ") + r.text, 10, style.width);
    // The line feed stays outside of the colour.
    text.pop_back();
    out += "  " + (is_spoilt ? style.red(text) : style.yellow(text)) + "\n";
  }
  return out.empty() ? "" : "\n" + out;
}

std::string failure_texts(const summary& s, const terminal_style& style) {
  std::string out;
  constexpr size_t most = 8;
  for (size_t i = 0; i < std::min(most, s.failure_texts.size()); ++i) {
    auto& [kind, text] = s.failure_texts[i];
    auto begin = std::string{"  "} + name_of(kind) + ": ";
    out += begin + terminal_text(text, style.width - std::min(style.width, begin.size())) + "\n";
  }
  return out.empty() ? "" : "\n" + out;
}

std::string one_point(const load_point& point, const terminal_style& style) {
  auto s = combined(point);
  auto out = head(s.what, style);
  auto repeats = point.repeats.size();
  auto load = terminal_text(s.what.load, 100) + ", " + format_number(s.measured_s) + " s measured";
  if (repeats > 1)
    load += " in " + std::to_string(repeats) + " repeats; figures are means over them";
  out += cut_to_columns(load, style.width) + "\n\n";
  out += padded_right("  requests", 22) + wrapped(requests_text(s, style), 22, style.width);
  out += rates(point, s, style) + latencies(s, style) + objectives(s, style);
  if (s.failed > 0)
    out += failure_texts(s, style);
  return out + remarks(s.remarks, style);
}

std::string sweep(const test_report& report, const terminal_style& style) {
  auto out = head(report.points.front().repeats.front().what, style);
  // What a narrow terminal must not lose comes first.
  std::vector<cells> rows{{report.swept == "users" ? "users" : "rate/s", "slo", "failed", "req/s",
                           "tok/s", "ttft p50", "ttft p99", "itl p50", "itl p99", "e2e p99"}};
  auto latency = [](const distribution& d, double distribution::*part) {
    return d.count > 0 ? format_ms(d.*part) : std::string{"-"};
  };
  std::vector<remark> all_remarks;
  for (auto& p : report.points) {
    auto s = combined(p);
    auto load = format_number(load_of(p, report.swept));
    rows.push_back({load,
                    s.objectives.empty() ? "-"
                    : objectives_met(s)  ? style.green("met")
                                         : style.red("MISSED"),
                    s.failed > 0 ? style.red(format_count(s.failed)) : "0",
                    format_number(s.requests_per_s), format_number(s.output_tokens_per_s),
                    latency(s.ttft_ms, &distribution::p50), latency(s.ttft_ms, &distribution::p99),
                    latency(s.itl_ms, &distribution::p50), latency(s.itl_ms, &distribution::p99),
                    latency(s.e2e_ms, &distribution::p99)});
    for (auto& r : s.remarks)
      if (r.how == remark::grade::spoilt)
        all_remarks.push_back({r.how, "At " + load + ": " + r.text});
  }
  out += "\n" + aligned(rows, style.width);
  if (auto& search = report.search) {
    auto answer = search->highest ? "highest " + report.swept + " that keeps the objectives: " +
                                        style.bold(format_number(*search->highest))
                                  : style.red("no load keeps the objectives");
    out += "\n  " +
           wrapped(answer + (search->note.empty() ? "" : "; " + search->note), 2, style.width);
  }
  return out + remarks(all_remarks, style);
}

} // namespace

std::string summary_table(const test_report& report, const terminal_style& style) {
  return report.is_sweep() ? sweep(report, style) : one_point(report.points.front(), style);
}

} // namespace troupe::load_test::report
