#include <catch2/catch.hpp>

#include <thread>

#include "client.hpp"
#include "fake_engine.hpp"
#include "troupe/config/error.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

constexpr std::string_view chat_stream =
    R"({"messages":[{"role":"user","content":"x"}],"stream":true})";
constexpr std::string_view lines = R"({"inputs":"x","stream":true})";

script_ptr make_script() {
  return std::make_shared<script>();
}

size_t count(std::string_view text, std::string_view what) {
  size_t out = 0;
  for (auto at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1))
    ++out;
  return out;
}

} // namespace

TEST_CASE("a chat streams as server-sent events and ends with [DONE]", "[http][stream]") {
  served here{make_script()};
  client c{here.port()};
  auto a = c.post("/v1/chat/completions", chat_stream);
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(a->chunked);
  CHECK(a->header("content-type") == "text/event-stream");
  CHECK(count(a->body, "data: ") == 5); // Three tokens, the reason, the end.
  CHECK(a->body.ends_with("data: [DONE]\n\n"));
  CHECK(a->body.find(R"("delta":{"role":"assistant","content":"Hello"})") != std::string::npos);
  // The stream ended well, so the connection goes on.
  CHECK(c.get("/ping"));
}

TEST_CASE("a client that leaves cancels its request", "[http][stream]") {
  auto what = make_script();
  what->endless = true;
  what->weight = 1;
  served here{what};
  auto leave = GENERATE(0, 1, 2);
  {
    client c{here.port()};
    c.send(post_bytes("/v1/chat/completions", chat_stream));
    REQUIRE_FALSE(c.receive_some().empty());
    if (leave == 1)
      c.reset();
    else if (leave == 2) {
      c.finish_sending();
      CHECK(eventually([&] { return what->cancelled == 1; }));
    }
  }
  CHECK(eventually([&] { return what->cancelled == 1; }));
}

TEST_CASE("a client that leaves before the first token cancels too", "[http][stream]") {
  auto what = make_script();
  what->delay_ms = 60'000;
  served here{what};
  {
    client c{here.port()};
    c.send(post_bytes("/invocations", lines));
    REQUIRE(eventually([&] { return what->submitted == 1; }));
  }
  CHECK(eventually([&] { return what->cancelled == 1; }));
}

TEST_CASE("a reader that does not read gets no more than its credit", "[http][stream]") {
  auto what = make_script();
  what->endless = true;
  what->pieces = {std::string(1000, 'x')};
  what->weight = 1000;
  served here{what};
  client c{here.port(), 4096};
  c.send(post_bytes("/invocations", lines));
  // The kernel's buffers fill, then nothing is granted any more.
  uint64_t before = 1;
  REQUIRE(eventually([&] {
    auto now = what->sent_weight.load();
    auto still = now == std::exchange(before, now);
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
    return still;
  }));
  auto unread = what->sent_weight - what->granted;
  CHECK(unread <= initial_credit + 1000);
  // Reading on sets the stream going again.
  auto stuck = what->sent_weight.load();
  REQUIRE(eventually([&] {
    c.receive_some();
    return what->sent_weight > stuck + initial_credit;
  }));
}

TEST_CASE("a reader that never reads is dropped after the read time-out", "[http][stream]") {
  auto what = make_script();
  what->endless = true;
  what->pieces = {std::string(1000, 'x')};
  what->weight = 1000;
  auto settings = served::quick_settings();
  settings.dialect.read_timeout_ms = 200;
  served here{what, settings};
  client c{here.port(), 4096};
  c.send(post_bytes("/invocations", lines));
  CHECK(eventually([&] { return what->cancelled == 1; }));
}

TEST_CASE("an error before the first byte has a status, one after it ends the stream",
          "[http][stream]") {
  auto what = make_script();
  what->failure = caf::make_error(ec::row_fault, std::string{"row 3 is broken"});
  SECTION("before") {
    what->fail_after = 0;
    served here{what};
    client c{here.port()};
    auto a = c.post("/invocations", lines);
    REQUIRE(a);
    CHECK(a->status == 424);
    CHECK(a->body ==
          R"({"code": 424, "error": "exception occurred during rolling batch inference"})");
    client d{here.port()};
    auto b = d.post("/v1/chat/completions", chat_stream);
    REQUIRE(b);
    CHECK(b->status == 500);
    CHECK(b->body.find("row 3 is broken") != std::string::npos);
  }
  SECTION("after") {
    what->fail_after = 2;
    served here{what};
    client c{here.port()};
    auto a = c.post("/invocations", lines);
    REQUIRE(a);
    CHECK(a->status == 200);
    CHECK(count(a->body, "\n") == 3);
    CHECK(a->body.ends_with(
        "{\"code\": 424, \"error\": \"exception occurred during rolling batch inference\"}\n"));
    auto b = c.post("/v1/chat/completions", chat_stream);
    REQUIRE(b);
    CHECK(b->status == 200);
    CHECK(b->body.find("data: {\"error\":{\"message\":\"row 3 is broken\"") != std::string::npos);
    CHECK(b->body.find("[DONE]") == std::string::npos);
  }
}

TEST_CASE("refusals have the status and body of their route", "[http][stream]") {
  auto what = make_script();
  what->refusal = caf::make_error(ec::queue_full, std::string{"1000 requests wait"});
  served here{what};
  client c{here.port()};
  auto a = c.post("/predictions/tiny", lines);
  REQUIRE(a);
  CHECK(a->status == 503);
  CHECK(a->header("retry-after") == "1");
  CHECK(a->body.find("\"type\": \"WlmCapacityException\"") != std::string::npos);
  CHECK(a->body.find("Worker queue capacity exceeded for model: tiny") != std::string::npos);
  client d{here.port()};
  auto b = d.post("/v1/chat/completions", chat_stream);
  REQUIRE(b);
  CHECK(b->status == 429);
  CHECK(b->body.find("\"code\":\"queue_full\"") != std::string::npos);
}

TEST_CASE("the engine's death ends what it was doing", "[http][stream]") {
  auto what = make_script();
  served here{what};
  here.kill_engine();
  client c{here.port()};
  auto a = c.post("/v1/chat/completions", chat_stream);
  REQUIRE(a);
  CHECK(a->status == 500);
  client d{here.port()};
  auto b = d.get("/ping");
  REQUIRE(b);
  CHECK(b->status == 500);
}

TEST_CASE("a list of prompts is one answer in the order of the prompts", "[http][stream]") {
  served here{make_script()};
  client c{here.port()};
  auto a = c.post("/v1/completions", R"({"prompt":["a","b",[1,2]]})");
  REQUIRE(a);
  CHECK(a->status == 200);
  CHECK(count(a->body, "\"text\":\"Hello world\"") == 3);
  CHECK(a->body.find(R"("usage":{"prompt_tokens":12,"completion_tokens":9,"total_tokens":21})") !=
        std::string::npos);
  auto b = c.post("/v1/completions", R"({"prompt":["a","b"],"stream":true})");
  REQUIRE(b);
  CHECK(count(b->body, "\"index\":1") == 4);
  CHECK(b->body.ends_with("data: [DONE]\n\n"));
}

TEST_CASE("many streams at once all end well", "[http][stream]") {
  auto what = make_script();
  what->pieces.assign(50, "tick ");
  served here{what};
  constexpr int streams = 200;
  std::vector<std::unique_ptr<client>> clients;
  for (int i = 0; i < streams; ++i) {
    clients.push_back(std::make_unique<client>(here.port()));
    clients.back()->send(post_bytes("/v1/chat/completions", chat_stream));
  }
  int good = 0;
  for (auto& c : clients) {
    auto a = c->receive();
    if (a && a->status == 200 && count(a->body, "data: ") == 52)
      ++good;
  }
  CHECK(good == streams);
  CHECK(what->finished == streams);
}
