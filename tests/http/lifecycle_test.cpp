#include <catch2/catch.hpp>

#include <thread>

#include <unistd.h>

#include "client.hpp"
#include "fake_engine.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

script_ptr slow_script() {
  auto out = std::make_shared<script>();
  out->delay_ms = 300;
  return out;
}

constexpr std::string_view lines = R"({"inputs":"x","stream":true})";

} // namespace

TEST_CASE("a draining server says so, finishes what it does and closes", "[http][lifecycle]") {
  auto what = slow_script();
  served here{what};
  client busy{here.port()};
  busy.send(post_bytes("/invocations", lines));
  client idle{here.port()};
  REQUIRE(idle.get("/ping"));
  REQUIRE(eventually([&] { return what->submitted == 1; }));
  here.server().begin_drain();
  CHECK(idle.closed_by_server());
  client late{here.port()};
  auto ping = late.get("/ping");
  REQUIRE(ping);
  CHECK(ping->status == 503);
  auto answer = busy.receive();
  REQUIRE(answer);
  CHECK(answer->status == 200);
  CHECK(answer->header("connection") == "close");
  CHECK(busy.closed_by_server());
}

TEST_CASE("stopping waits for answers within its grace", "[http][lifecycle]") {
  auto what = slow_script();
  served here{what};
  client busy{here.port()};
  busy.send(post_bytes("/invocations", lines));
  REQUIRE(eventually([&] { return what->submitted == 1; }));
  std::thread stopper{[&] { here.server().stop(std::chrono::seconds{10}); }};
  auto answer = busy.receive();
  CHECK(answer);
  CHECK(busy.closed_by_server());
  stopper.join();
}

TEST_CASE("stopping without grace cancels", "[http][lifecycle]") {
  auto what = slow_script();
  what->delay_ms = 60'000;
  served here{what};
  client busy{here.port()};
  busy.send(post_bytes("/invocations", lines));
  REQUIRE(eventually([&] { return what->submitted == 1; }));
  here.server().stop(std::chrono::milliseconds{0});
  CHECK(eventually([&] { return what->cancelled == 1; }));
  CHECK(busy.closed_by_server());
}

TEST_CASE("a server can listen on a socket file", "[http][lifecycle]") {
  auto settings = served::quick_settings();
  settings.unix_path = "/tmp/troupe-test-" + std::to_string(::getpid()) + ".sock";
  served here{std::make_shared<script>(), settings};
  CHECK(here.port() == 0);
  CHECK(::access(settings.unix_path.c_str(), F_OK) == 0);
  here.server().stop(std::chrono::milliseconds{0});
  CHECK(::access(settings.unix_path.c_str(), F_OK) != 0);
}
