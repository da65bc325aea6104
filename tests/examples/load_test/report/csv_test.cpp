#include "troupe/examples/load_test/report/csv_report.hpp"

#include <sstream>

#include <catch2/catch.hpp>

#include "runs.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in{text};
  std::vector<std::string> all;
  for (std::string line; std::getline(in, line);)
    all.push_back(line);
  return all;
}

} // namespace

TEST_CASE("each request is a line of CSV", "[load_test][csv]") {
  run_results run;
  run.begin = 1_s;
  run.end = 10_s;
  add_stream(run, 2_s, 100_ms, {10_ms, 30_ms});
  add_failure(run, 3_s, outcome::refused, 429);
  run.requests.back().measured = false;
  std::ostringstream out;
  write_requests_csv_header(out);
  write_requests_csv(out, run, 2, 1);
  auto lines = lines_of(out.str());
  REQUIRE(lines.size() == 3);
  CHECK(std::count(lines[0].begin(), lines[0].end(), ',') == 15);
  CHECK(lines[1] ==
        "2,1,1,1000.000,0.100,100.000,20.000,20.000,30.000,140.000,1140.000,10,3,200,ok,true");
  CHECK(lines[2] == "2,1,2,2000.000,0.000,,,,,,2001.000,0,0,429,refused,false");
}

TEST_CASE("each load of a sweep is a line of CSV", "[load_test][csv]") {
  auto a = summarize(make_run({.seconds = 5, .rate = 20}), {});
  auto b = summarize(make_run({.seconds = 5, .rate = 40}), *parse_objectives("ttft_p50=1us"));
  a.what.model = "=HYPERLINK(\"http://x\"),1";
  b.itl_ms = {};
  test_report report{{{{a}}, {{b, b}}}, "rate", std::nullopt};
  std::ostringstream out;
  write_summary_csv(out, report);
  auto lines = lines_of(out.str());
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].find("ttft_ms.p99,") != std::string::npos);
  CHECK(lines[0].find("errors.refused,") != std::string::npos);
  CHECK(lines[1].find(",\"'=HYPERLINK(\"\"http://x\"\"),1\",") != std::string::npos);
  CHECK(lines[1].ends_with(",true,true"));
  CHECK(lines[2].ends_with(",false,true"));
  auto commas = std::count(lines[0].begin(), lines[0].end(), ',');
  CHECK(std::count(lines[2].begin(), lines[2].end(), ',') ==
        commas + 2); // "open loop, ..." is quoted
  CHECK(lines[2].find(",,,,,,,") != std::string::npos);
}
