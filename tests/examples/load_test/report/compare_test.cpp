#include "troupe/examples/load_test/report/compare.hpp"

#include <sstream>

#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/json_report.hpp"

#include "runs.hpp"

using namespace troupe;
using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

using verdict = figure_comparison::verdict;

test_report repeated(synthetic x, size_t repeats) {
  test_report r{{{}}, "", std::nullopt};
  for (size_t i = 0; i < repeats; ++i, ++x.seed)
    r.points[0].repeats.push_back(summarize(make_run(x), {}));
  return r;
}

comparison compared(const test_report& a, const test_report& b) {
  auto c = compare(a, b);
  REQUIRE(c);
  return *c;
}

size_t real_ones(const comparison& c) {
  size_t n = 0;
  for (auto& p : c.points)
    for (auto& f : p.figures)
      n += f.how == verdict::real;
  return n;
}

const figure_comparison& at(const comparison& c, const std::string& name) {
  for (auto& f : c.points.front().figures)
    if (f.name == name)
      return f;
  FAIL("no figure " + name);
  throw std::logic_error{"unreachable"};
}

/// Comparisons of a server with itself in which anything is called real.
int false_ones(synthetic x, size_t repeats, int pairs) {
  int n = 0;
  for (int i = 0; i < pairs; ++i) {
    x.seed = static_cast<uint64_t>(i) * 1000 + 1;
    auto a = repeated(x, repeats);
    x.seed += 500;
    n += real_ones(compared(a, repeated(x, repeats))) > 0;
  }
  return n;
}

} // namespace

TEST_CASE("a test against itself shows no difference", "[load_test][compare]") {
  for (size_t repeats : {1U, 2U, 5U}) {
    auto a = repeated({}, repeats);
    auto c = compared(a, a);
    CHECK(real_ones(c) == 0);
    CHECK(c.settings.empty());
    CHECK(at(c, "ttft_ms.p50").ratio == 1.0);
    CHECK(at(c, "ttft_ms.p50").how == verdict::not_shown);
    CHECK(c.points[0].by_repeats == (repeats > 1));
  }
}

// At most 5 % of the comparisons may be wrong; 60 pairs are wrong more than 8 times by chance in
// one of 500 such tests, and these have fixed seeds.
TEST_CASE("two runs of one server rarely differ", "[load_test][compare]") {
  CHECK(false_ones({.seconds = 10}, 1, 60) <= 8);
  // Weather that lasts makes neighbouring blocks alike.
  CHECK(false_ones({.seconds = 20, .rate = 20, .calm_s = 1.5}, 1, 60) <= 8);
}

TEST_CASE("repeats of one server rarely differ, though runs do", "[load_test][compare]") {
  CHECK(false_ones({.seconds = 5, .rate = 30, .run_to_run = 0.05}, 3, 60) <= 8);
}

TEST_CASE("a shift of 10 % is real with enough samples", "[load_test][compare]") {
  int seen_within = 0, seen_by_repeats = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    synthetic x{.seed = seed * 100, .seconds = 40};
    synthetic slower = x;
    slower.seed += 50;
    slower.ttft_ms *= 1.1;
    slower.itl_ms *= 1.1;
    auto c = compared(repeated(x, 1), repeated(slower, 1));
    auto& f = at(c, "itl_ms.p50");
    seen_within += f.how == verdict::real && !f.b_is_better && f.ratio > 1.05 && f.ratio < 1.15;
    x.seconds = slower.seconds = 15;
    x.run_to_run = slower.run_to_run = 0.01;
    auto repeats = compared(repeated(x, 6), repeated(slower, 6));
    seen_by_repeats += at(repeats, "itl_ms.p50").how == verdict::real;
  }
  CHECK(seen_within >= 9);
  CHECK(seen_by_repeats >= 9);
}

TEST_CASE("too few samples are not judged", "[load_test][compare]") {
  auto a = repeated({.seconds = 2, .rate = 20}, 1);
  auto b = repeated({.seed = 9, .seconds = 2, .rate = 20, .ttft_ms = 500}, 1);
  auto c = compared(a, b);
  CHECK(at(c, "ttft_ms.p99").how == verdict::not_judged);
  CHECK(at(c, "ttft_ms.p99").why.find("run longer") != std::string::npos);
  CHECK(at(c, "ttft_ms.max").how == verdict::not_judged);
}

TEST_CASE("failures and a goodput of nothing are differences", "[load_test][compare]") {
  auto goals = *parse_objectives("ttft_p50=1us");
  auto run = make_run({});
  test_report a{{{{summarize(run, {})}}}, "", std::nullopt};
  for (nanoseconds i = 0; i < 200; ++i)
    add_failure(run, i * 100_ms, outcome::refused, 503);
  test_report b{{{{summarize(run, goals)}}}, "", std::nullopt};
  auto c = compared(a, b);
  CHECK(at(c, "failed_share").how == verdict::real);
  CHECK(!at(c, "failed_share").b_is_better);
  CHECK(at(c, "goodput_requests_per_s").how == verdict::real);
  CHECK(at(c, "requests_per_s").how == verdict::not_shown);
}

TEST_CASE("sweeps are compared where their loads meet", "[load_test][compare]") {
  auto point = [](double rate) {
    return load_point{{summarize(make_run({.seconds = 5, .rate = rate}), {})}};
  };
  test_report a{{point(10), point(20)}, "rate", std::nullopt};
  test_report b{{point(20), point(30)}, "rate", std::nullopt};
  auto c = compared(a, b);
  REQUIRE(c.points.size() == 1);
  CHECK(c.points[0].load == "rate 20");
  test_report apart{{point(30), point(40)}, "rate", std::nullopt};
  auto none = compare(a, apart);
  REQUIRE(!none);
  CHECK(code_of(none.error()) == ec::invalid_request);
  CHECK(text_of(none.error()).find("A has rate 10, 20, B has rate 30, 40") != std::string::npos);
}

TEST_CASE("settings that differ are listed and spoilt tests named", "[load_test][compare]") {
  auto a = repeated({}, 1), b = repeated({}, 1);
  auto& what = b.points[0].repeats[0].what;
  what.url = "http://other\x1b[2J";
  what.settings.emplace_back("--think-time", "1s");
  b.points[0].repeats[0].remarks.push_back({remark::grade::spoilt, "late"});
  auto c = compared(a, b);
  REQUIRE(c.settings.size() == 2);
  CHECK(c.settings[1] == std::array<std::string, 3>{"--think-time", "-", "1s"});
  auto text = comparison_table(c, "a.json", "b.json", {});
  CHECK(text.find("spoilt figures of B") != std::string::npos);
  CHECK(text.find("\x1b") == std::string::npos);
  CHECK(text.find("No difference is shown of") != std::string::npos);
  CHECK(text.find("single run on a side") != std::string::npos);
}

TEST_CASE("a comparison fits its terminal with its verdicts", "[load_test][compare]") {
  auto c = compared(repeated({}, 1), repeated({.seed = 3, .ttft_ms = 90}, 1));
  for (size_t width : {80U, 120U}) {
    auto text = comparison_table(c, "a", "b", {true, false, width});
    INFO(text);
    CHECK(text.find("real: B is WORSE by ") != std::string::npos);
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);)
      CHECK(columns(line) <= width);
  }
}

TEST_CASE("what a file keeps is enough to compare", "[load_test][compare]") {
  auto a = repeated({.seed = 1}, 1), b = repeated({.seed = 2, .ttft_ms = 80}, 1);
  auto direct = compared(a, b);
  auto read = compared(*parse_json(to_json(a)), *parse_json(to_json(b)));
  CHECK(comparison_table(direct, "a", "b", {}) == comparison_table(read, "a", "b", {}));
  CHECK(at(read, "ttft_ms.p50").how == verdict::real);
  CHECK(!at(read, "ttft_ms.p50").b_is_better);
}

TEST_CASE("Student's interval has the width of the tables", "[load_test][confidence]") {
  // t(0.975, 4) = 2.776; s of 1..5 = 1.5811
  std::vector<double> x{1, 2, 3, 4, 5};
  auto i = student_interval(x);
  REQUIRE(i);
  CHECK(i->low == Approx(3 - 2.7764 * 1.58114 / std::sqrt(5.0)).epsilon(1e-4));
  CHECK(i->high == Approx(3 + 2.7764 * 1.58114 / std::sqrt(5.0)).epsilon(1e-4));
  CHECK(!student_interval(std::vector<double>{1}));
  CHECK(student_p_value(2.7764, 4) == Approx(0.05).epsilon(1e-3));
  CHECK(student_p_value(0, 4) == Approx(1));
}

TEST_CASE("an interval within a run holds the true value as often as it says",
          "[load_test][confidence]") {
  size_t p50 = 0;
  while (figures()[p50].name() != "itl_ms.p50")
    ++p50;
  int held = 0, given = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    load_point point{{summarize(make_run({.seed = seed, .seconds = 15, .itl_ms = 8}), {})}};
    if (auto i = confidence_intervals(point)[p50]) {
      ++given;
      held += i->low <= 8 && 8 <= i->high;
    }
  }
  CHECK(given >= 55);
  CHECK(held >= given * 87 / 100);
  CHECK(held < 60); // Or the interval says nothing.
}

TEST_CASE("users in step do not blur the rate", "[load_test][confidence]") {
  // 16 users whose requests take 650 ms each and end all at once.
  run_results run;
  run.end = 10_s;
  for (nanoseconds round = 0; round < 15; ++round)
    for (nanoseconds user = 0; user < 16; ++user)
      add_stream(run, round * 650_ms + user, 20_ms, std::vector<nanoseconds>(63, 10_ms));
  auto s = summarize(run, {});
  auto interval = confidence_intervals({{s}})[1];
  REQUIRE(figures()[1].name() == "requests_per_s");
  REQUIRE(interval);
  CHECK(interval->low > 0.9 * s.requests_per_s);
  CHECK(interval->high < 1.1 * s.requests_per_s);
}
