#include "troupe/examples/load_test/report/html_report.hpp"

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/report/axis.hpp"
#include "troupe/examples/load_test/report/chart.hpp"
#include "troupe/examples/load_test/report/format.hpp"
#include "troupe/http/json/value.hpp"

#include "runs.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

bool has(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

/// Names of elements that are not closed in their order; empty for a sound page.
std::vector<std::string> unbalanced(const std::string& html) {
  std::vector<std::string> open;
  auto begin = html.find("<body");
  auto end = html.find("<script>");
  while ((begin = html.find('<', begin)) < end) {
    auto close = html.find('>', begin);
    auto tag = html.substr(begin + 1, close - begin - 1);
    begin = close;
    auto name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.front() == '/') {
      if (open.empty() || open.back() != tag.substr(1))
        return {tag};
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  return open == std::vector<std::string>{"body"} ? std::vector<std::string>{} : open;
}

test_report eventful_run() {
  auto run = make_run({.seconds = 10});
  for (auto& r : run.requests)
    r.sent = r.scheduled + 30_ms;
  add_failure(run, 1_s, outcome::http_error, 500);
  run.failure_texts.emplace_back(outcome::http_error, "<script>alert(1)</script>\x1b[2J");
  run.what.model = "<img src=x onerror=alert(2)>";
  run.what.settings.emplace_back("--prompt", "\"><svg onload=alert(3)>");
  return {{{{summarize(run, *parse_objectives("ttft_p99=1us,e2e_p50=10s"))}}}, "", std::nullopt};
}

test_report some_sweep() {
  test_report r{{}, "rate", search_answer{20, "near <b>20</b>"}};
  for (double rate : {10.0, 20.0, 40.0}) {
    load_point p;
    for (uint64_t seed : {1U, 2U})
      p.repeats.push_back(summarize(make_run({.seed = seed, .seconds = 4, .rate = rate}),
                                    *parse_objectives("ttft_p99=500ms")));
    r.points.push_back(std::move(p));
  }
  return r;
}

} // namespace

TEST_CASE("a page has its figures, verdicts and charts", "[load_test][html]") {
  auto html = to_html(eventful_run());
  CHECK(unbalanced(html).empty());
  CHECK(has(html, "class=\"remark spoilt\" role=\"alert\">Spoilt result. The generator sent late"));
  CHECK(has(html, "<code>ttft_p99=1us</code>"));
  CHECK(has(html, "missed"));
  CHECK(has(html, "Time to first token over time"));
  CHECK(has(html, "Time between tokens: histogram"));
  CHECK(has(html, "Requests in flight"));
  CHECK(has(html, "<code>http_error</code>"));
  CHECK(has(html, "send lateness"));
  CHECK(has(html, "prefers-color-scheme: dark"));
}

TEST_CASE("a sweep's page shows its loads side by side and one by one", "[load_test][html]") {
  auto html = to_html(some_sweep());
  CHECK(unbalanced(html).empty());
  CHECK(has(html, "Time to first token over load"));
  CHECK(has(html, "Whole latency against throughput"));
  CHECK(has(html, "class=\"band c2\""));
  CHECK(has(html, "near &lt;b&gt;20&lt;/b&gt;"));
  size_t details = 0;
  for (auto at = html.find("<details>"); at != std::string::npos;
       at = html.find("<details>", at + 1))
    ++details;
  CHECK(details == 3);
}

TEST_CASE("a page loads nothing and runs nothing of others", "[load_test][html]") {
  for (auto& html : {to_html(eventful_run()), to_html(some_sweep())}) {
    CHECK(has(html, "default-src 'none'"));
    for (auto* fetched :
         {"src=\"", "@import", "url(", "<img", "<iframe", "fetch(", "XMLHttp", "<svg onload"})
      CHECK(!has(html, fetched));
    CHECK(!has(html, "alert(1)</script>"));
    CHECK(!has(html, "\x1b"));
    // No figure went wrong on its way to a coordinate.
    CHECK(!has(html, "nan"));
    CHECK(!has(html, "\"inf"));
    CHECK(!has(html, "-inf"));
  }
  CHECK(has(to_html(eventful_run()), "&lt;script&gt;alert(1)"));
}

TEST_CASE("a run in which nothing happened has a page", "[load_test][html]") {
  auto html = to_html({{{{summarize({}, {})}}}, "", std::nullopt});
  CHECK(unbalanced(html).empty());
  CHECK(has(html, "No request was measured"));
}

TEST_CASE("what the pointer shows is JSON", "[load_test][html]") {
  histogram h;
  for (nanoseconds i = 1; i < 200; ++i)
    h.record(i * 1_ms);
  auto drawing = draw_histogram("x", h, {{"p\"50\"", 100}}, 0);
  auto begin = drawing.find("data-hover=\"") + 12;
  auto text = drawing.substr(begin, drawing.find('"', begin) - begin);
  for (auto at = text.find("&quot;"); at != std::string::npos; at = text.find("&quot;"))
    text.replace(at, 6, "\"");
  auto tree = troupe::http::json::parse(text);
  REQUIRE(tree);
  REQUIRE(tree->as_array());
  CHECK(tree->as_array()->size() > 10);
  CHECK(draw_histogram("x", {}, {}, 0).empty());
  CHECK(draw(line_chart{}).empty());
}

TEST_CASE("a histogram's bars add up to all samples", "[load_test][html]") {
  std::mt19937_64 random{5};
  histogram h;
  for (int i = 0; i < 30'000; ++i)
    h.record(
        static_cast<nanoseconds>(1e7 * std::exp(std::normal_distribution<double>{0, 0.8}(random))));
  auto drawing = draw_histogram("x", h, {}, 0);
  double heights = 0, tallest = 0;
  size_t bars = 0;
  for (auto at = drawing.find("<rect"); at != std::string::npos;
       at = drawing.find("<rect", at + 1)) {
    auto height = std::stod(drawing.substr(drawing.find("height=\"", at) + 8));
    heights += height;
    tallest = std::max(tallest, height);
    ++bars;
  }
  CHECK(bars > 30);
  // A bell: a saw of bins that grow in steps would have neighbours twice as high.
  CHECK(heights / tallest > 8);
}

TEST_CASE("ticks are round numbers within the axis", "[load_test][axis]") {
  auto labels = [](const axis& a) {
    std::string all;
    for (auto& t : a.ticks()) {
      CHECK(t.value >= a.low() - 1e-9);
      CHECK(t.value <= a.high() + 1e-9);
      all += t.label + " ";
    }
    return all;
  };
  CHECK(labels(axis::linear(0, 87, format_number)) == "0 20 40 60 80 100 ");
  CHECK(labels(axis::linear(0, 0.0031, format_number)) == "0 0.001 0.002 0.003 0.004 ");
  CHECK(labels(axis::linear(0, 0, format_number)) == "0 0.2 0.4 0.6 0.8 1 ");
  CHECK(labels(axis::clock(60)) == "0:00 0:10 0:20 0:30 0:40 0:50 1:00 ");
  CHECK(labels(axis::clock(600)) == "0:00 2:00 4:00 6:00 8:00 10:00 ");
  CHECK(labels(axis::clock(7300)) == "0:00 30:00 1:00:00 1:30:00 2:00:00 ");
  CHECK(labels(axis::logarithmic(2, 150, format_ms)) == "2 ms 5 ms 10 ms 20 ms 50 ms 100 ms ");
  CHECK(labels(axis::logarithmic(0.1, 20'000, format_ms)) ==
        "100 us   1 ms   10 ms   100 ms   1 s   10 s  ");
  CHECK(axis::fitting(10, 100, format_ms).is_logarithmic() == false);
  CHECK(axis::fitting(10, 1000, format_ms).is_logarithmic());
  CHECK(axis::fitting(0, 1000, format_ms).is_logarithmic() == false);
  auto a = axis::logarithmic(1, 100, format_ms);
  CHECK(a.place(10) == Approx(0.5));
  CHECK(a.value(0.5) == Approx(10));
  CHECK(a.place(0) == 0);
  CHECK(a.place(1e9) == 1);
}
