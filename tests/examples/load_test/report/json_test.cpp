#include "troupe/examples/load_test/report/json_report.hpp"

#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/http/json/value.hpp"

#include "runs.hpp"

using namespace troupe;
using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

std::vector<objective> some_goals() {
  return *parse_objectives("ttft_p99=500ms,itl_p50=1us,e2e_max=10s");
}

summary some_run(uint64_t seed, double rate = 40) {
  auto run = make_run({.seed = seed, .seconds = 8, .rate = rate});
  add_failure(run, 3_s, outcome::refused, 503);
  run.failure_texts.emplace_back(outcome::refused, "busy: \"try\x01 later\"\xff");
  return summarize(run, some_goals());
}

test_report one_run() {
  return {{{{some_run(1)}}}, "", std::nullopt};
}
test_report three_repeats() {
  return {{{{some_run(1), some_run(2), some_run(3)}}}, "", std::nullopt};
}
test_report sweep() {
  return {{{{some_run(1, 20)}}, {{some_run(2, 40), some_run(3, 40)}}},
          "rate",
          search_answer{40, "near"}};
}

http::json::value tree_of(const test_report& r) {
  auto tree = http::json::parse(to_json(r));
  REQUIRE(tree);
  return *tree;
}

double number_at(const http::json::value& tree, std::initializer_list<const char*> path) {
  auto* at = &tree;
  for (auto* name : path) {
    at = at->find(name);
    REQUIRE(at);
  }
  REQUIRE(at->is_number());
  return at->number();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string refused(const std::string& text) {
  auto x = parse_json(text);
  REQUIRE(!x);
  CHECK(code_of(x.error()) == ec::invalid_request);
  return text_of(x.error());
}

bool mentions(const std::string& text, const std::string& what) {
  INFO(text);
  return text.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("the JSON of a run names its figures with their units", "[load_test][json]") {
  auto report = one_run();
  auto& s = report.points[0].repeats[0];
  auto tree = tree_of(report);
  CHECK(number_at(tree, {"ttft_ms", "p99"}) == s.ttft_ms.p99);
  CHECK(number_at(tree, {"itl_ms", "p50"}) == s.itl_ms.p50);
  CHECK(number_at(tree, {"e2e_ms", "p99.9"}) == s.e2e_ms.p99_9);
  CHECK(number_at(tree, {"output_tokens_per_s"}) == s.output_tokens_per_s);
  CHECK(number_at(tree, {"goodput_requests_per_s"}) == s.goodput_requests_per_s);
  CHECK(number_at(tree, {"send_lateness_ms", "p99"}) == s.send_lateness_ms.p99);
  CHECK(number_at(tree, {"errors", "refused"}) == 1);
  CHECK(number_at(tree, {"errors", "timed_out"}) == 0);
  CHECK(*tree.find("objectives_met")->as_bool() == false);
  CHECK(*tree.find("trusted")->as_bool() == true);
  auto* interval = tree.find("confidence_95")->find("ttft_ms")->find("p50")->as_array();
  REQUIRE(interval);
  CHECK((*interval)[0].number() < s.ttft_ms.p50);
  CHECK((*interval)[1].number() > s.ttft_ms.p50);
}

TEST_CASE("figures over repeats are their means", "[load_test][json]") {
  auto report = three_repeats();
  auto& r = report.points[0].repeats;
  auto tree = tree_of(report);
  CHECK(number_at(tree, {"ttft_ms", "p50"}) ==
        Approx((r[0].ttft_ms.p50 + r[1].ttft_ms.p50 + r[2].ttft_ms.p50) / 3));
  CHECK(number_at(tree, {"ttft_ms", "max"}) ==
        Approx(std::max({r[0].ttft_ms.max, r[1].ttft_ms.max, r[2].ttft_ms.max})));
  CHECK(number_at(tree, {"requests", "measured"}) == r[0].requests + r[1].requests + r[2].requests);
  CHECK(tree.find("repeats")->as_array()->size() == 3);
}

TEST_CASE("what is read is what was written", "[load_test][json]") {
  for (auto& report : {one_run(), three_repeats(), sweep()}) {
    auto text = to_json(report);
    auto read = parse_json(text);
    REQUIRE(read);
    CHECK(to_json(*read) == text);
    CHECK(read->points.size() == report.points.size());
    CHECK(read->points[0].repeats[0].over_time.blocks.size() ==
          report.points[0].repeats[0].over_time.blocks.size());
  }
  // A run in which nothing happened has a report as well.
  test_report empty{{{{summarize({}, some_goals())}}}, "", std::nullopt};
  auto read = parse_json(to_json(empty));
  REQUIRE(read);
  CHECK(to_json(*read) == to_json(empty));
}

TEST_CASE("the same run gives the same bytes", "[load_test][json]") {
  CHECK(to_json(one_run()) == to_json(one_run()));
}

TEST_CASE("a bad file is refused with the place and the reason", "[load_test][json]") {
  auto text = to_json(one_run());
  CHECK(mentions(refused("{}"), "format is missing"));
  CHECK(mentions(refused("[]"), "the file: expected an object, found array"));
  CHECK(!refused("{\"format\": ").empty());
  CHECK(mentions(refused(replaced(text, "\"troupe-load\"", "\"oha\"")), "format: expected"));
  CHECK(
      mentions(refused(replaced(text, "\"format_version\": 1", "\"format_version\": 2")), "newer"));
  CHECK(mentions(refused(replaced(text, "\"kind\": \"run\"", "\"kind\": \"walk\"")), "walk"));
  CHECK(mentions(refused(replaced(text, "\"p99\": ", "\"p99\": \"x\", \"was\": ")),
                 "ttft_ms.p99: expected a number of 0 or more, found string"));
  CHECK(mentions(refused(replaced(text, "\"p99\": ", "\"p99\": -")), "ttft_ms.p99"));
  CHECK(mentions(refused(replaced(text, "\"p99\": ", "\"p98\": ")), "ttft_ms.p99 is missing"));
  CHECK(mentions(refused(replaced(text, "\"measured\": ", "\"measured\": 1")), "add up"));
  CHECK(mentions(refused(replaced(text, "\"ttft_p99=500ms\"", "\"ttft\"")),
                 "objectives[0].objective"));
  CHECK(mentions(refused(replaced(text, "\"grade\": \"warning\"", "\"grade\": \"bad\"")),
                 "remarks[0].grade"));
  CHECK(mentions(refused(replaced(text, "\"completed\": [", "\"completed\": [1,")),
                 "blocks.completed: expected"));
  CHECK(mentions(refused(replaced(text, "\"block_s\": ", "\"block_s\": 0, \"was\": ")), "block_s"));
  CHECK(mentions(refused(replaced(text, "\"ttft\": [\n      [", "\"ttft\": [\n      [9999999,1,")),
                 "blocks.ttft[0][0]"));
  auto points = to_json(sweep());
  CHECK(mentions(refused(replaced(points, "\"swept\": \"rate\"", "\"swept\": \"x\"")), "swept"));
  auto at = points.rfind("\"p99\": ");
  points.insert(at + 7, "-");
  CHECK(mentions(refused(points), "points[1].repeats[1].send_lateness_ms.p99"));
}

TEST_CASE("no cut of a file is taken for a report", "[load_test][json]") {
  auto text = to_json(one_run());
  for (size_t n = 0; n + 2 < text.size(); n += 97)
    CHECK(!parse_json(std::string_view{text}.substr(0, n)));
}
