#include <catch2/catch.hpp>

#include "troupe/config/rate_limit.hpp"

using namespace std::chrono_literals;
using troupe::config::parse_rate_limit;

TEST_CASE("a rate is a number and a duration in ISO 8601", "[config][rate_limit]") {
  auto window = [](std::string_view text) {
    auto limit = parse_rate_limit(text);
    REQUIRE(limit);
    CHECK(limit->most == 10);
    return limit->window;
  };
  CHECK(window("10") == 1min);
  CHECK(window("10/PT30S") == 30s);
  CHECK(window("10/PT0.5S") == 500ms);
  CHECK(window("10/pt1m") == 1min);
  CHECK(window("10/PT1H2M3S") == 3723s);
  CHECK(window("10/P1D") == 24h);
  CHECK(window("10/P2DT1H") == 49h);
  CHECK(parse_rate_limit("0")->most == 0);
}

TEST_CASE("anything else is no rate", "[config][rate_limit]") {
  for (auto text : {"",          "x",           "-1",      "1.5",          "10/",       "10/P",
                    "10/PT",     "10/1M",       "10/PT1X", "10/PT1S2M",    "10/PT-1S",  "10/P1H",
                    "10/PT1M1M", "10/PT1.5M",   "10/PT0S", "10/P9999999D", "10/PT1e3S", "10/PTinfS",
                    "10/PT1S ",  "99999999999", "10//PT1S"})
    CHECK_FALSE(parse_rate_limit(text));
}
