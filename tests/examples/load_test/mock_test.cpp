// Whole runs against the built-in server: one per dialect, and what clients do to it on purpose.

#include <algorithm>

#include "troupe/examples/load_test/client/fetch.hpp"

#include "rig.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::test;

namespace {

constexpr nanoseconds ms = 1'000'000;

void check_run(std::string_view name, dialect_settings s, bool streams, bool counts_prompt) {
  auto mock = start(quick());
  rig r{mock->port(), name, s};
  auto out = r.run();
  INFO(name);
  for (const auto& [kind, text] : out.ordinary.failure_texts)
    WARN(text);
  REQUIRE(out.ordinary.requests.size() == 12);
  CHECK(count(out.ordinary, outcome::ok) == 12);
  CHECK(mock->requests() == 12);
  for (const auto& request : out.ordinary.requests) {
    CHECK(request.status == 200);
    CHECK(request.sent >= request.scheduled);
    CHECK(request.end >= request.sent + quick().ttft);
    CHECK(request.output_tokens == 8);
    if (counts_prompt)
      CHECK(request.prompt_tokens == 12);
    CHECK(request.gap_count == (streams ? 7 : 0));
    CHECK((request.first_token != 0) == streams);
    if (streams)
      CHECK(request.first_token >= request.sent + quick().ttft);
  }
}

} // namespace

TEST_CASE("a run over openai-chat", "[examples][load]") {
  check_run("openai-chat", {}, true, true);
}

TEST_CASE("a run over openai-chat, not streamed", "[examples][load]") {
  dialect_settings s;
  s.stream = false;
  check_run("openai-chat", s, false, true);
}

TEST_CASE("a run over openai", "[examples][load]") {
  check_run("openai", {}, true, true);
}

TEST_CASE("a run over openai with token ids", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port(), "openai"};
  synthetic_settings prompts;
  prompts.input = parse_lengths("20").value();
  prompts.output = parse_lengths("3").value();
  prompts.as_ids = true;
  prompts.vocabulary = 100;
  r.settings.prompts = make_synthetic(prompts, word_table::approximate()).value();
  for (const auto& request : r.run().ordinary.requests) {
    CHECK(request.ended == outcome::ok);
    CHECK(request.prompt_tokens == 20);
    CHECK(request.output_tokens == 3);
  }
}

TEST_CASE("a run over lmi in each of its forms", "[examples][load]") {
  dialect_settings s;
  check_run("lmi", s, true, true);
  s.lmi = lmi_format::sse;
  check_run("lmi", s, true, true);
  s.lmi = lmi_format::json;
  check_run("lmi", s, false, true);
}

TEST_CASE("a run over tgi, streamed and not", "[examples][load]") {
  check_run("tgi", {}, true, true);
  dialect_settings s;
  s.stream = false;
  check_run("tgi", s, false, true);
}

TEST_CASE("a run over each task", "[examples][load]") {
  auto mock = start(quick());
  for (auto task : task_names) {
    dialect_settings s;
    s.task = task;
    auto out = rig{mock->port(), "task", s}.run();
    INFO(task);
    CHECK(count(out.ordinary, outcome::ok) == 12);
    CHECK(out.ordinary.requests[0].output_tokens == 0);
  }
}

TEST_CASE("an open loop sends on schedule", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port()};
  r.settings.plan = {};
  r.settings.plan.arrival.kind = arrival_kind::constant;
  r.settings.plan.arrival.rate = 100;
  r.settings.warm_up = 100 * ms;
  r.settings.duration = 400 * ms;
  r.settings.plan.stop_at = 500 * ms;
  r.settings.workers = 2;
  auto out = r.run();
  REQUIRE(out.ordinary.requests.size() == 50);
  for (size_t i = 0; i < 50; ++i) {
    const auto& request = out.ordinary.requests[i];
    CHECK(request.scheduled == static_cast<nanoseconds>(i) * 10 * ms);
    CHECK(request.sent >= request.scheduled);
    CHECK(request.measured == (i >= 10));
    CHECK(request.ended == outcome::ok);
  }
  CHECK(out.ordinary.begin == 100 * ms);
  CHECK(out.ordinary.end == 500 * ms);
  CHECK(out.ordinary.health.cpu_seconds > 0);
  CHECK(out.ordinary.health.wall_seconds == Approx(0.4));
}

TEST_CASE("requests that wait for a place are timed from their schedule", "[examples][load]") {
  auto settings = quick();
  settings.ttft = 20 * ms;
  auto mock = start(settings);
  rig r{mock->port()};
  r.settings.plan = {};
  r.settings.plan.arrival.kind = arrival_kind::constant;
  r.settings.plan.arrival.rate = 1000;
  r.settings.plan.requests = 10;
  r.settings.max_in_flight = 1;
  auto out = r.run();
  REQUIRE(out.ordinary.requests.size() == 10);
  const auto& last = out.ordinary.requests[9];
  CHECK(last.end - last.scheduled > 9 * 20 * ms);
  CHECK(last.sent - last.scheduled > 8 * 20 * ms);
}

TEST_CASE("connections are kept, unless they shall not be", "[examples][load]") {
  for (auto keeps : {true, false}) {
    auto mock = start(quick());
    rig r{mock->port()};
    r.settings.keep_alive = keeps;
    CHECK(count(r.run().ordinary, outcome::ok) == 12);
  }
}

TEST_CASE("errors that a server gives are counted by kind", "[examples][load]") {
  auto check = [](uint16_t status, outcome expected) {
    auto settings = quick();
    settings.error_share = 1;
    settings.error_status = status;
    auto mock = start(settings);
    auto out = rig{mock->port()}.run();
    CHECK(count(out.ordinary, expected) == 12);
    REQUIRE_FALSE(out.ordinary.failure_texts.empty());
    CHECK(out.ordinary.failure_texts[0].first == expected);
    if (status != 0)
      CHECK(out.ordinary.failure_texts[0].second ==
            std::to_string(status) + " an error that was ordered");
  };
  check(500, outcome::http_error);
  check(503, outcome::refused);
  check(0, outcome::connection_lost);
}

TEST_CASE("a request that takes too long has timed out", "[examples][load]") {
  auto settings = quick();
  settings.itl = 1000 * ms;
  auto mock = start(settings);
  rig r{mock->port()};
  r.settings.plan.requests = 4;
  r.settings.timeout = 100 * ms;
  auto out = r.run();
  CHECK(count(out.ordinary, outcome::timed_out) == 4);
  CHECK(out.ordinary.requests[0].output_tokens == 1);
  CHECK(out.ordinary.requests[0].end >= 100 * ms);
}

TEST_CASE("an interrupted run reports what it had", "[examples][load]") {
  auto settings = quick();
  settings.itl = 20 * ms;
  auto mock = start(settings);
  rig r{mock->port()};
  r.settings.plan.requests = 0;
  r.settings.duration = 60'000 * ms;
  r.settings.plan.stop_at = r.settings.duration;
  auto begin = std::chrono::steady_clock::now();
  auto out = run_load(r.settings, [&](const report::live_snapshot& seen) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    return seen.completed < 4;
  });
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{20});
  CHECK(out.interrupted);
  CHECK(count(out.ordinary, outcome::ok) >= 4);
  CHECK(count(out.ordinary, outcome::cancelled) == 4);
  CHECK(out.ordinary.end < 20'000 * ms);
}

TEST_CASE("clients that leave after k tokens are kept apart", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port()};
  r.settings.plan.requests = 40;
  r.settings.odd.cancel_after = 3;
  r.settings.odd_share = 0.5;
  auto out = r.run();
  CHECK(out.odd.requests.size() + out.ordinary.requests.size() == 40);
  CHECK(out.odd.requests.size() > 5);
  CHECK(count(out.odd, outcome::cancelled) == out.odd.requests.size());
  CHECK(count(out.ordinary, outcome::ok) == out.ordinary.requests.size());
  for (const auto& request : out.odd.requests)
    CHECK(request.output_tokens >= 3);
}

TEST_CASE("half-closed clients are dropped by a server that takes them for gone",
          "[examples][load]") {
  auto settings = quick();
  settings.itl = 50 * ms; // so that the server sees it long before the answer is complete
  auto mock = start(settings);
  rig r{mock->port()};
  r.settings.odd.half_close_after = 2;
  r.settings.odd_share = 1;
  auto out = r.run();
  CHECK(count(out.odd, outcome::connection_lost) == 12);
}

TEST_CASE("slow readers get their answers, late", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port()};
  r.settings.plan.users = r.settings.plan.requests = 3;
  r.settings.odd.read_bytes_per_s = 4000;
  r.settings.odd_share = 1;
  auto out = r.run();
  CHECK(count(out.odd, outcome::ok) == 3);
  // 8 events and the head are about 1.7 kB.
  for (const auto& request : out.odd.requests)
    CHECK(request.end - request.sent > 200 * ms);
}

TEST_CASE("turns carry what was said before", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port()};
  r.settings.plan.users = 1;
  r.settings.plan.requests = 6;
  r.settings.plan.turns = 3;
  auto out = r.run();
  REQUIRE(count(out.ordinary, outcome::ok) == 6);
  // The mock counts words: 12 of each question, 8 of each answer.
  std::vector<uint32_t> prompts;
  for (const auto& request : out.ordinary.requests)
    prompts.push_back(request.prompt_tokens);
  CHECK(prompts == std::vector<uint32_t>{12, 32, 52, 12, 32, 52});
}

TEST_CASE("a pause of the mock stops everything for its time", "[examples][load]") {
  auto settings = quick();
  settings.pause_at = 50 * ms;
  settings.pause_for = 300 * ms;
  auto mock = start(settings);
  rig r{mock->port()};
  r.settings.plan = {};
  r.settings.plan.arrival.kind = arrival_kind::constant;
  r.settings.plan.arrival.rate = 100;
  r.settings.duration = r.settings.plan.stop_at = 400 * ms;
  auto out = r.run();
  REQUIRE(out.ordinary.requests.size() == 40);
  for (const auto& request : out.ordinary.requests) {
    auto due = request.scheduled;
    auto took = request.first_token - due;
    // The pause begins with the first request's arrival, about a millisecond after its time.
    if (due >= 60 * ms && due < 340 * ms)
      CHECK(took >= 350 * ms - due);
  }
}

TEST_CASE("the mock's /metrics, /tokenize and unknown routes", "[examples][load]") {
  auto mock = start(quick());
  rig r{mock->port()};
  CHECK(fetch(r.to, "GET", "/metrics")->body.find("mock_requests_running 0") != std::string::npos);
  CHECK(fetch(r.to, "POST", "/tokenize", R"({"prompt":"a b c"})")->body == R"({"count":3})");
  CHECK(fetch(r.to, "POST", "/nowhere", "{}")->status == 404);
  CHECK(fetch(r.to, "POST", "/v1/completions", "{")->status == 400);
}
