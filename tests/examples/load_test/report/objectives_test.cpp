#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/report/objectives.hpp"

using namespace troupe;
using namespace troupe::load_test;
using namespace troupe::load_test::report;

namespace {

std::string refused(std::string_view text) {
  auto x = parse_objectives(text);
  REQUIRE(!x);
  CHECK(code_of(x.error()) == ec::bad_option);
  return text_of(x.error());
}

bool mentions(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("objectives are read with their latency, percentile and bound",
          "[load_test][objectives]") {
  auto x = parse_objectives("ttft_p99=500ms, itl_p99.9=60ms,tpot_p50=250us,e2e_max=1.5s");
  REQUIRE(x);
  REQUIRE(x->size() == 4);
  CHECK(x->at(0).what == objective::latency::ttft);
  CHECK(x->at(0).percentile == 99);
  CHECK(x->at(0).at_most == 500'000'000);
  CHECK(x->at(1).what == objective::latency::itl);
  CHECK(x->at(1).percentile == Approx(99.9));
  CHECK(x->at(1).at_most == 60'000'000);
  CHECK(x->at(2).what == objective::latency::tpot);
  CHECK(x->at(2).at_most == 250'000);
  CHECK(x->at(3).what == objective::latency::e2e);
  CHECK(x->at(3).percentile == 100);
  CHECK(x->at(3).at_most == 1'500'000'000);
}

TEST_CASE("an objective is written as it is read", "[load_test][objectives]") {
  for (auto* text : {"ttft_p99=500ms", "itl_p99.9=62.5ms", "tpot_p50=250us", "e2e_max=1.5s",
                     "e2e_p90=12s", "itl_p50=0.5us"}) {
    auto x = parse_objectives(text);
    REQUIRE(x);
    CHECK(to_string(x->front()) == text);
  }
}

TEST_CASE("a wrong objective is named with what is allowed", "[load_test][objectives]") {
  CHECK(mentions(refused("ttfb_p99=500ms"), "'ttfb' is no latency"));
  CHECK(mentions(refused("ttfb_p99=500ms"), "ttft, itl, tpot or e2e"));
  CHECK(mentions(refused("ttft=500ms"), "'ttft' names no percentile"));
  CHECK(mentions(refused("ttft_p100=500ms"), "_p50 to _p99.9 or _max"));
  CHECK(mentions(refused("ttft_p0=500ms"), "names no percentile"));
  CHECK(mentions(refused("ttft_p1e1=500ms"), "names no percentile"));
  CHECK(mentions(refused("ttft_p99"), "no '='"));
  CHECK(mentions(refused("ttft_p99=500"), "'500' is no bound"));
  CHECK(mentions(refused("ttft_p99=500 min"), "us, ms or s"));
  CHECK(mentions(refused("ttft_p99=-5ms"), "'-5ms' is no bound"));
  CHECK(mentions(refused("ttft_p99=0ms"), "is no bound"));
  CHECK(mentions(refused("ttft_p99=1.2.3ms"), "is no bound"));
  CHECK(mentions(refused("ttft_p99=99999999s"), "a day at most"));
  CHECK(mentions(refused(""), "nothing stands"));
  CHECK(mentions(refused("ttft_p99=1s,,itl_p50=1s"), "nothing stands"));
  CHECK(mentions(refused("ttft_p99=1s,"), "nothing stands"));
  CHECK(mentions(refused("ttft_p99=1s,ttft_p99=2s"), "ttft_p99=1s"));
}
