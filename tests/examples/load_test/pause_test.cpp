// What a server that stalls for 2 s does to the figures. The clock is a variable of this file, the
// server a formula, so that the expected percentiles are known exactly.

#include <algorithm>
#include <atomic>
#include <map>
#include <vector>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/load/driver.hpp"
#include "troupe/examples/load_test/load/recorder.hpp"
#include "troupe/examples/load_test/mock/settings.hpp"
#include "troupe/examples/load_test/report/statistics.hpp"

using namespace troupe::load_test;

namespace {

constexpr nanoseconds ms = 1'000'000;
constexpr nanoseconds second = 1000 * ms;
constexpr nanoseconds pause_at = 5 * second;
constexpr nanoseconds pause_for = 2 * second;
constexpr nanoseconds length = 20 * second;

/// A server that takes `service` for each request and does nothing at all during its pause.
class stalling_server {
public:
  stalling_server(nanoseconds service, bool one_at_a_time)
      : service_{service}, one_at_a_time_{one_at_a_time} {}

  /// When a request that is sent at `now` is answered.
  nanoseconds answer(nanoseconds now) {
    auto begin = one_at_a_time_ ? std::max(now, free_at_) : now;
    free_at_ = after_pause(begin, service_, pause_at, pause_for);
    return free_at_;
  }

private:
  nanoseconds service_;
  bool one_at_a_time_;
  nanoseconds free_at_ = 0;
};

report::summary measure(const load_plan& plan, stalling_server server) {
  std::atomic<uint64_t> tickets{0};
  driver d{plan, 0, 1, tickets};
  recorder r{0, length};
  std::multimap<nanoseconds, std::pair<request_start, recorder::slot>> in_flight;
  while (d.next_due() || !in_flight.empty()) {
    auto due = d.next_due();
    if (!in_flight.empty() && (!due || in_flight.begin()->first <= *due)) {
      auto [now, what] = *in_flight.begin();
      in_flight.erase(in_flight.begin());
      r.token(what.second, now);
      r.end(what.second, now, {});
      d.finished(what.first, now);
    } else if (auto start = d.take_due(*due)) {
      in_flight.emplace(server.answer(*due), std::pair{*start, r.begin(start->scheduled, *due)});
    }
  }
  run_results results;
  r.drain_into(results);
  finish(results, 0, length);
  return report::summarize(results, {});
}

load_plan open_loop() {
  load_plan p;
  p.arrival.kind = arrival_kind::constant;
  p.arrival.rate = 100;
  p.stop_at = length;
  return p;
}

} // namespace

TEST_CASE("a pause of 2 s stands in p99 as long as it was", "[examples][load]") {
  auto s = measure(open_loop(), {10 * ms, false});
  REQUIRE(s.e2e_ms.count == 2000);
  // A request due x after the pause began waits 2 s - x and then takes 10 ms: descending by 10 ms,
  // 2010 (due 10 ms before it, and caught by it), 2010, 2000, 1990, ... Of 2,000 samples, p99 lies
  // 0.01 of the way from the 21st longest, 1820, to the 20th, 1830.
  CHECK(s.e2e_ms.max == Approx(2010));
  CHECK(s.e2e_ms.p99 == Approx(1820.1).margin(0.001));
  CHECK(s.ttft_ms.p99 == Approx(1820.1).margin(0.001));
  CHECK(s.e2e_ms.p50 == Approx(10));
  CHECK(s.send_lateness_ms.max == 0);
}

TEST_CASE("what piles up behind a pause is counted as well", "[examples][load]") {
  auto s = measure(open_loop(), {5 * ms, true});
  REQUIRE(s.e2e_ms.count == 2000);
  // Request k of the pause is due 10 k ms after its begin and answered 5 (k + 1) ms after its end:
  // it takes 2005 - 5 k ms, until k = 400. p99 lies 0.01 of the way from k = 20 to k = 19.
  CHECK(s.e2e_ms.max == Approx(2005));
  CHECK(s.e2e_ms.p99 == Approx(1905.05).margin(0.001));
}

TEST_CASE("a lone closed-loop user sees a pause once, which is why there are open loops",
          "[examples][load]") {
  load_plan p;
  p.users = 1;
  p.stop_at = length;
  auto s = measure(p, {10 * ms, false});
  CHECK(s.e2e_ms.max == Approx(2010));
  CHECK(s.e2e_ms.p99 == Approx(10));
}
