#include <catch2/catch.hpp>

#include "client.hpp"
#include "fake_engine.hpp"
#include "troupe/config/error.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

constexpr auto later = "x-synchronous: false\r\n";
constexpr auto ask = R"({"inputs":"hi","parameters":{"max_new_tokens":3},"stream":true})";

std::string submit(served& here) {
  client c{here.port()};
  auto a = c.post("/invocations", ask, later);
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(a->body.empty());
  CHECK(a->header("content-length") == "0");
  auto token = a->header("x-next-token");
  CHECK(token.size() == 36);
  CHECK(a->header("x-amzn-sagemaker-custom-attributes") == "x-next-token=" + token);
  return token;
}

std::optional<answer> poll(served& here, const std::string& token, const std::string& more = "") {
  client c{here.port()};
  return c.post("/predictions/tiny", "", "x-starting-token: " + token + "\r\n" + more);
}

} // namespace

TEST_CASE("an answer can be fetched later, piece by piece", "[http][async]") {
  auto what = std::make_shared<script>();
  what->delay_ms = 50;
  served here{what};
  auto token = submit(here);
  auto early = poll(here, token);
  REQUIRE(early);
  CHECK(early->status == 202);
  CHECK(early->reason == "The model result is not yet available");
  REQUIRE(eventually([&] { return what->finished == 1; }));
  std::string all;
  int pieces = 0;
  for (auto next = token; !next.empty(); ++pieces) {
    auto some = poll(here, next, "x-max-items: 1\r\n");
    REQUIRE(some);
    if (some->status == 202)
      continue;
    CHECK(some->header("content-type") == "application/jsonlines");
    all += some->body;
    next = some->header("x-next-token");
  }
  CHECK(pieces >= 3);
  client c{here.port()};
  auto plain = c.post("/invocations", ask);
  REQUIRE(plain);
  CHECK(all == plain->body);
}

TEST_CASE("a failed answer is told to whoever fetches it", "[http][async]") {
  auto what = std::make_shared<script>();
  what->refusal = caf::make_error(ec::queue_full, std::string{"no room"});
  served here{what};
  auto token = submit(here);
  std::optional<answer> end;
  CHECK(eventually([&] {
    end = poll(here, token);
    return end && end->status != 202;
  }));
  CHECK(end->status == 500);
  CHECK(end->reason == "no room");
}

TEST_CASE("a result that must make room is cancelled", "[http][async]") {
  auto what = std::make_shared<script>();
  what->pieces.assign(300'000, "word ");
  auto settings = served::quick_settings();
  settings.async_capacity = 1;
  served here{what, settings};
  auto first = submit(here);
  REQUIRE(eventually([&] { return what->granted > 0; }));
  submit(here);
  CHECK(eventually([&] { return what->cancelled == 1; }));
  CHECK(poll(here, first)->status == 400);
}

TEST_CASE("a stream whose next piece does not come is given up", "[http][stream]") {
  auto what = std::make_shared<script>();
  what->pieces.assign(10, "word ");
  what->fail_after = 2; // The failure comes 100 ms after the tokens, too late.
  auto settings = served::quick_settings();
  settings.dialect.read_timeout_ms = 30;
  served here{what, settings};
  client c{here.port()};
  c.send(post_bytes("/invocations", ask));
  auto begin = c.receive_some();
  CHECK(begin.find("200 OK") != std::string::npos);
  CHECK(c.closed_by_server());
  CHECK(eventually([&] { return what->cancelled == 1; }));
}
