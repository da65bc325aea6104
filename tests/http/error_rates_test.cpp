#include <catch2/catch.hpp>

#include "troupe/http/error_rates.hpp"

using namespace std::chrono_literals;
using troupe::config::rate_limit;
using troupe::http::error_class;
using troupe::http::error_rate_limits;
using troupe::http::error_rates;

namespace {

error_rate_limits limit(error_class what, uint32_t most, std::chrono::milliseconds window = 60s) {
  error_rate_limits out;
  out[static_cast<size_t>(what)] = rate_limit{most, window};
  return out;
}

const auto start = error_rates::clock::time_point{} + 1h;

} // namespace

TEST_CASE("without a limit errors are never too many", "[http][error_rates]") {
  error_rates rates;
  for (int i = 0; i < 100; ++i)
    rates.record(500, true);
  CHECK(!rates.exceeded());
}

TEST_CASE("a limit is exceeded by one more than it, within its window, and for good",
          "[http][error_rates]") {
  error_rates rates{limit(error_class::any, 2, 10s)};
  rates.record(500, false, start);
  rates.record(500, false, start + 1s);
  CHECK(!rates.exceeded());
  // The first two are forgotten by now.
  rates.record(500, false, start + 12s);
  rates.record(500, false, start + 13s);
  CHECK(!rates.exceeded());
  rates.record(500, false, start + 14s);
  CHECK(rates.exceeded());
  rates.record(200, false, start + 10min);
  CHECK(rates.exceeded());
}

TEST_CASE("each class counts its own errors", "[http][error_rates]") {
  auto [what, status, model, counts] =
      GENERATE(table<error_class, int, bool, bool>({{error_class::wlm, 503, false, true},
                                                    {error_class::wlm, 507, false, true},
                                                    {error_class::wlm, 500, false, false},
                                                    {error_class::server, 424, false, true},
                                                    {error_class::server, 500, false, true},
                                                    {error_class::server, 503, false, false},
                                                    {error_class::server, 400, false, false},
                                                    {error_class::model, 424, true, true},
                                                    {error_class::model, 424, false, false},
                                                    {error_class::any, 424, false, true},
                                                    {error_class::any, 503, false, true},
                                                    {error_class::any, 404, false, false},
                                                    {error_class::any, 200, false, false}}));
  error_rates rates{limit(what, 0)};
  rates.record(status, model, start);
  CHECK(rates.exceeded() == counts);
}
