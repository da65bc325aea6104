#include <algorithm>
#include <map>
#include <vector>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/load/driver.hpp"

using namespace troupe::load_test;

namespace {

constexpr nanoseconds ms = 1'000'000;
constexpr nanoseconds second = 1000 * ms;

load_plan open_loop(double rate, nanoseconds stop_at) {
  load_plan p;
  p.arrival.kind = arrival_kind::constant;
  p.arrival.rate = rate;
  p.stop_at = stop_at;
  return p;
}

load_plan closed_loop(uint32_t users, nanoseconds stop_at) {
  load_plan p;
  p.users = users;
  p.stop_at = stop_at;
  return p;
}

/// All requests of a driver whose requests take `service` each.
std::vector<request_start> run(driver& d, nanoseconds service) {
  std::vector<request_start> out;
  std::multimap<nanoseconds, request_start> in_flight;
  for (;;) {
    auto due = d.next_due();
    auto ends = in_flight.empty() ? std::optional<nanoseconds>{} : in_flight.begin()->first;
    if (!due && !ends)
      return out;
    if (ends && (!due || *ends <= *due)) {
      auto request = in_flight.begin()->second;
      in_flight.erase(in_flight.begin());
      d.finished(request, *ends);
      continue;
    }
    if (auto start = d.take_due(*due)) {
      out.push_back(*start);
      in_flight.emplace(*due + service, *start);
    }
  }
}

} // namespace

TEST_CASE("an open loop does not wait for answers", "[examples][load]") {
  std::atomic<uint64_t> tickets{0};
  driver d{open_loop(10, second), 0, 1, tickets};
  auto all = run(d, 100 * second);
  REQUIRE(all.size() == 10);
  CHECK(all[9].scheduled == 900 * ms);
  CHECK(all[9].user == 9);
  CHECK(d.idle());
}

TEST_CASE("nothing is due before its time", "[examples][load]") {
  std::atomic<uint64_t> tickets{0};
  driver d{open_loop(10, second), 0, 1, tickets};
  CHECK(d.take_due(0).has_value());
  CHECK(d.next_due() == 100 * ms);
  CHECK_FALSE(d.take_due(99 * ms).has_value());
  // What was missed is due at once, and keeps the time at which it was due.
  CHECK(d.take_due(350 * ms)->scheduled == 100 * ms);
  CHECK(d.take_due(350 * ms)->scheduled == 200 * ms);
  CHECK(d.take_due(350 * ms)->scheduled == 300 * ms);
  CHECK_FALSE(d.take_due(350 * ms).has_value());
}

TEST_CASE("a closed loop's user sends when the answer has come", "[examples][load]") {
  std::atomic<uint64_t> tickets{0};
  driver d{closed_loop(3, second), 0, 1, tickets};
  auto all = run(d, 250 * ms);
  CHECK(all.size() == 3 * 4);
  for (const auto& r : all)
    CHECK(r.scheduled == static_cast<nanoseconds>(r.turn) * 250 * ms);
}

TEST_CASE("users think, and begin one after the other", "[examples][load]") {
  auto p = closed_loop(4, second);
  p.think_time = 100 * ms;
  p.ramp_up = 400 * ms;
  std::atomic<uint64_t> tickets{0};
  driver d{p, 0, 1, tickets};
  auto all = run(d, 100 * ms);
  std::map<uint64_t, std::vector<nanoseconds>> by_user;
  for (const auto& r : all)
    by_user[r.user].push_back(r.scheduled);
  CHECK(by_user[0] == std::vector<nanoseconds>{0, 200 * ms, 400 * ms, 600 * ms, 800 * ms});
  CHECK(by_user[3] == std::vector<nanoseconds>{300 * ms, 500 * ms, 700 * ms, 900 * ms});
}

TEST_CASE("a number of requests ends either loop", "[examples][load]") {
  for (auto users : {0u, 7u}) {
    auto p = users > 0 ? closed_loop(users, 0) : open_loop(100, 0);
    p.requests = 25;
    std::atomic<uint64_t> tickets{0};
    driver d{p, 0, 1, tickets};
    CHECK(run(d, 10 * ms).size() == 25);
    CHECK(d.idle());
  }
}

TEST_CASE("a trace ends when it is over", "[examples][load]") {
  load_plan p;
  p.arrival.kind = arrival_kind::trace;
  p.arrival.trace = std::make_shared<std::vector<trace_entry>>(
      std::vector<trace_entry>{{0, 1, 2}, {5 * ms, 3, 4}});
  std::atomic<uint64_t> tickets{0};
  driver d{p, 0, 1, tickets};
  auto all = run(d, ms);
  REQUIRE(all.size() == 2);
  CHECK(all[1].scheduled == 5 * ms);
}

TEST_CASE("workers together send what one alone would", "[examples][load]") {
  auto p = open_loop(200, 5 * second);
  p.arrival.kind = arrival_kind::poisson;
  p.arrival.seed = 11;
  std::atomic<uint64_t> tickets{0};
  driver alone{p, 0, 1, tickets};
  std::vector<nanoseconds> expected, together;
  for (const auto& r : run(alone, ms))
    expected.push_back(r.scheduled);
  for (uint32_t share = 0; share < 3; ++share) {
    driver d{p, share, 3, tickets};
    for (const auto& r : run(d, ms))
      together.push_back(r.scheduled);
  }
  std::sort(together.begin(), together.end());
  CHECK(together == expected);
  CHECK(expected.size() > 900);
}

TEST_CASE("turns of a conversation follow their answers", "[examples][load]") {
  auto p = open_loop(1, 2 * second);
  p.turns = 3;
  p.think_time = 50 * ms;
  std::atomic<uint64_t> tickets{0};
  driver d{p, 0, 1, tickets};
  auto all = run(d, 100 * ms);
  REQUIRE(all.size() == 6);
  CHECK(all[1].user == 0);
  CHECK(all[1].turn == 1);
  CHECK(all[1].scheduled == 150 * ms);
  CHECK(all[2].turn == 2);
  CHECK(all[2].scheduled == 300 * ms);
}

TEST_CASE("a failed request ends its conversation", "[examples][load]") {
  auto p = open_loop(1, second);
  p.turns = 3;
  std::atomic<uint64_t> tickets{0};
  driver d{p, 0, 1, tickets};
  auto first = d.take_due(0).value();
  d.finished(first, 10 * ms, false);
  CHECK(d.idle());
  auto q = closed_loop(1, second);
  q.turns = 3;
  driver users{q, 0, 1, tickets};
  auto asked = users.take_due(0).value();
  users.finished(asked, 10 * ms, false);
  // The user begins the next conversation.
  CHECK(users.take_due(10 * ms)->turn == 3);
}

TEST_CASE("after stop nothing is due", "[examples][load]") {
  std::atomic<uint64_t> tickets{0};
  driver d{closed_loop(2, second), 0, 1, tickets};
  auto start = d.take_due(0).value();
  d.stop();
  CHECK(d.idle());
  d.finished(start, 5 * ms);
  CHECK(d.idle());
  CHECK_FALSE(d.next_due().has_value());
}
