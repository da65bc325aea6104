#include <cmath>

#include "troupe/examples/load_test/report/compare.hpp"
#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/format.hpp"
#include "troupe/examples/load_test/report/text_table.hpp"

namespace troupe::load_test::report {

namespace {

using verdict = figure_comparison::verdict;

bool is_latency(const figure_comparison& f) {
  return f.name.find("_ms.") != std::string::npos;
}

std::string value_text(const figure_comparison& f, double x) {
  return f.name == "failed_share" ? format_percent(x)
         : is_latency(f)          ? format_ms(x)
                                  : format_number(x);
}

std::string ratio_text(double x) {
  char text[32];
  std::snprintf(text, sizeof text, x < 10 ? "%.3f" : "%.1f", x);
  return text;
}

std::string verdict_text(const figure_comparison& f, bool roomy, const terminal_style& style) {
  if (f.how == verdict::not_judged)
    return style.dim(roomy ? "not judged: " + f.why : "not judged");
  if (f.how == verdict::not_shown)
    return roomy ? "no difference shown" : "none shown";
  auto words = std::string{"real: B is "} + (f.b_is_better ? "better" : "WORSE");
  if (f.ratio)
    words += " by " + format_percent(std::fabs(*f.ratio - 1));
  return f.b_is_better ? style.green(words) : style.red(words);
}

std::string figures_table(const point_comparison& point, const terminal_style& style) {
  auto roomy = style.width >= 100;
  std::vector<std::vector<std::string>> rows{{"", "A", "B", "B/A", "95 %", "difference"}};
  for (auto& f : point.figures) {
    auto range = f.ratio_interval ? ratio_text(f.ratio_interval->low) + " to " +
                                        ratio_text(f.ratio_interval->high)
                                  : std::string{"-"};
    rows.push_back({f.name, value_text(f, f.a), value_text(f, f.b),
                    f.ratio ? ratio_text(*f.ratio) : "-", range, verdict_text(f, roomy, style)});
  }
  // A narrow terminal loses the interval, not the verdict.
  if (!roomy)
    for (auto& row : rows)
      row.erase(row.begin() + 4);
  return aligned(rows, style.width, 1);
}

} // namespace

std::string comparison_table(const comparison& c, const std::string& name_a,
                             const std::string& name_b, const terminal_style& style) {
  auto out = "A  " + terminal_text(name_a, 200) + "\nB  " + terminal_text(name_b, 200) + "\n";
  if (!c.settings.empty()) {
    std::vector<std::vector<std::string>> rows{{"setting", "A", "B"}};
    for (auto& [name, a, b] : c.settings)
      rows.push_back({terminal_text(name, 40), terminal_text(a, 60), terminal_text(b, 60)});
    out += "\n" + aligned(rows, style.width, 2);
  }
  size_t real = 0, judged = 0;
  for (auto& point : c.points) {
    out += "\n" +
           style.bold(terminal_text(point.load, 100) +
                      (point.by_repeats ? ", judged by repeats" : ", judged within runs")) +
           "\n" + figures_table(point, style);
    for (auto& f : point.figures) {
      judged += f.how != verdict::not_judged;
      real += f.how == verdict::real;
    }
  }
  auto result =
      real == 0 ? "No difference is shown" : std::to_string(real) + " differences are real";
  if (real == 1)
    result = "1 difference is real";
  out += "\n" + wrapped(style.bold(result) + " of " + std::to_string(judged) +
                            " figures judged (5 % chance of a false one among them all).",
                        0, style.width);
  for (auto& r : c.remarks)
    out += style.yellow("note") + "  " + wrapped(r, 6, style.width);
  return out;
}

} // namespace troupe::load_test::report
