#include "rig.hpp"

#include "troupe/actors/scheduling/departure.hpp"

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;

namespace {

batching_limits ahead_limits() {
  auto l = rig::small_limits();
  l.ahead = true;
  return l;
}

} // namespace

TEST_CASE("a step leaves a millisecond or an eighth before the device needs it",
          "[actors][departure]") {
  CHECK(time_to_departure(40e6, 0) == 35'000'000);
  CHECK(time_to_departure(40e6, 30'000'000) == 5'000'000);
  CHECK(time_to_departure(4e6, 0) == 3'000'000);
  CHECK(!time_to_departure(40e6, 35'000'000));
  CHECK(!time_to_departure(40e6, 90'000'000));
  CHECK(!time_to_departure(0.9e6, 0)); // such short steps are worth no wait
  CHECK(time_to_departure(0, 5) == UINT64_MAX);
}

TEST_CASE("company is awaited around prompts that do not fill a step", "[actors][departure]") {
  rig r{ahead_limits()};
  CHECK(!r.policy.awaits_company(1)); // the device is idle
  r.submit(rig::words(1, 5), 9);
  CHECK(r.launch());
  CHECK(r.policy.awaits_company(1)); // behind a prompt
  r.submit(rig::words(40, 6), 9);
  CHECK(r.policy.awaits_company(1));
  r.submit(rig::words(80, 12), 9);
  CHECK(!r.policy.awaits_company(1)); // decode row and prompts fill the next step
  while (r.launch() || r.policy.load().waiting > 0)
    r.land();
  r.run();
}

TEST_CASE("steps of decode rows alone follow each other at once", "[actors][departure]") {
  rig r{ahead_limits()};
  r.submit(rig::words(1, 5), 9);
  CHECK(r.launch());
  CHECK(r.land());
  CHECK(r.launch());
  CHECK(!r.policy.awaits_company(1));
  CHECK(r.launch());
  r.submit(rig::words(40, 3), 2);
  CHECK(r.policy.awaits_company(1)); // now somebody waits, and others may come
  r.run();
}

TEST_CASE("nobody is awaited who could not come along", "[actors][departure]") {
  auto limits = ahead_limits();
  limits.max_sequences = 1;
  rig r{limits};
  r.submit(rig::words(1, 5), 9);
  CHECK(r.launch());
  CHECK(!r.policy.awaits_company(1)); // no slot is free
  r.run();

  limits.max_sequences = 4;
  limits.blocks = 5;
  rig full{limits};
  full.submit(rig::words(1, 12), 6);
  full.submit(rig::words(40, 12), 6);
  CHECK(full.launch());
  CHECK(full.land());
  CHECK(full.launch());
  CHECK(!full.policy.awaits_company(1)); // no block is, and the head of the line knows
  full.run();
  full.expect_empty();
}

TEST_CASE("what is in flight is expected to take what its like has taken", "[actors][departure]") {
  rig r{ahead_limits()};
  r.step_ns = [](const step& s) {
    uint64_t decodes = 0, prompts = 0;
    for (const auto& row : s.rows)
      (row.token_count == 1 ? decodes : prompts) += row.token_count;
    return (decodes > 0 ? 5'000'000 : 0) + prompts * 1'000'000;
  };
  CHECK(r.policy.expected_ns() == 0);
  r.submit(rig::words(1, 5), 9);
  CHECK(r.launch());
  CHECK(r.policy.expected_ns() == 0); // nothing was seen yet
  CHECK(r.land());
  CHECK(r.launch());
  CHECK(r.policy.expected_ns() == 0);
  CHECK(r.land());
  CHECK(r.launch());
  CHECK(r.policy.expected_ns() == Approx(5e6));
  CHECK(r.launch());
  CHECK(r.policy.expected_ns() == Approx(10e6));
  r.submit(rig::words(40, 4), 2);
  CHECK(r.land());
  CHECK(r.land());
  CHECK(r.launch());
  CHECK(r.policy.expected_ns() == Approx(9e6));
  r.run();
}
