#include <catch2/catch.hpp>

#include "troupe/examples/load_test/load/recorder.hpp"

using namespace troupe::load_test;

TEST_CASE("a request's times and gaps are kept as they were", "[examples][load]") {
  recorder r{0, 0};
  auto a = r.begin(100, 110, 5);
  auto b = r.begin(105, 106);
  r.token(a, 200);
  r.token(b, 205);
  r.token(a, 230);
  r.token(b, 206);
  r.token(a, 300);
  r.end(b, 400, {outcome::ok, 200, 7, 9, {}});
  r.end(a, 500, {outcome::ok, 200, 0, 0, {}});
  run_results out;
  r.drain_into(out);
  finish(out, 0, 0);
  REQUIRE(out.requests.size() == 2);
  const auto& first = out.requests[0];
  CHECK(first.scheduled == 100);
  CHECK(first.sent == 110);
  CHECK(first.first_token == 200);
  CHECK(first.end == 500);
  CHECK(first.prompt_tokens == 5); // nobody knew better
  CHECK(first.output_tokens == 3); // counted
  REQUIRE(first.gap_count == 2);
  CHECK(out.gaps[first.first_gap] == 30);
  CHECK(out.gaps[first.first_gap + 1] == 70);
  const auto& second = out.requests[1];
  CHECK(second.prompt_tokens == 7);
  CHECK(second.output_tokens == 9);
  REQUIRE(second.gap_count == 1);
  CHECK(out.gaps[second.first_gap] == 1);
  CHECK(out.end == 500);
}

TEST_CASE("gaps stay with their requests when workers are put together", "[examples][load]") {
  recorder first{0, 0}, second{0, 0};
  auto a = first.begin(10, 10);
  first.token(a, 20);
  first.token(a, 23);
  first.end(a, 30, {});
  auto b = second.begin(5, 5);
  second.token(b, 6);
  second.token(b, 13);
  second.token(b, 14);
  second.end(b, 15, {});
  run_results out;
  first.drain_into(out);
  second.drain_into(out);
  finish(out, 0, 0);
  CHECK(out.requests[0].scheduled == 5);
  CHECK(out.gaps[out.requests[0].first_gap] == 7);
  CHECK(out.gaps[out.requests[0].first_gap + 1] == 1);
  CHECK(out.gaps[out.requests[1].first_gap] == 3);
}

TEST_CASE("only requests due within the measured time count", "[examples][load]") {
  recorder r{100, 200};
  for (nanoseconds due : {99, 100, 199, 200})
    r.end(r.begin(due, due), 500, {});
  run_results out;
  r.drain_into(out);
  finish(out, 100, 200);
  CHECK_FALSE(out.requests[0].measured);
  CHECK(out.requests[1].measured);
  CHECK(out.requests[2].measured); // also if its answer comes later
  CHECK_FALSE(out.requests[3].measured);
}

TEST_CASE("the first failures of each kind keep their words", "[examples][load]") {
  recorder r{0, 0};
  for (int i = 0; i < 10; ++i)
    r.end(r.begin(i, i), 20, {outcome::refused, 429, 0, 0, "busy " + std::to_string(i)});
  r.end(r.begin(11, 11), 20, {outcome::timed_out, 0, 0, 0, std::string(5000, 'x')});
  CHECK(r.failed() == 11);
  run_results out;
  r.drain_into(out);
  REQUIRE(out.failure_texts.size() == 4);
  CHECK(out.failure_texts[2].second == "busy 2");
  CHECK(out.failure_texts[3].second.size() == 300);
}

TEST_CASE("a slot is used again without traces of the request before", "[examples][load]") {
  recorder r{0, 0};
  auto a = r.begin(1, 1);
  r.token(a, 5);
  r.token(a, 6);
  r.end(a, 7, {});
  auto b = r.begin(8, 8);
  CHECK(b == a);
  r.end(b, 9, {outcome::connection_lost, 0, 0, 0, "gone"});
  run_results out;
  r.drain_into(out);
  CHECK(out.requests[1].first_token == 0);
  CHECK(out.requests[1].gap_count == 0);
  CHECK(out.requests[1].output_tokens == 0);
}
