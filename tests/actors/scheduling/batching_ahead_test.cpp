#include "rig.hpp"

#include <algorithm>

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;

namespace {

batching_limits ahead_limits() {
  auto l = rig::small_limits();
  l.ahead = true;
  return l;
}

size_t pending_in(const step& s) {
  return static_cast<size_t>(std::count(s.tokens.begin(), s.tokens.end(), pending_token));
}

} // namespace

TEST_CASE("ahead, the next step is issued before the last one's tokens are known",
          "[actors][batching][ahead]") {
  rig r{ahead_limits()};
  auto a = r.submit(rig::words(1, 5), 4);
  CHECK(r.launch());
  CHECK(r.launch());
  CHECK(!r.launch()); // a step more than there are shards, and no further
  REQUIRE(r.flying.size() == 2);
  CHECK(r.flying[1].tokens == std::vector{pending_token});
  CHECK(r.flying[1].rows[0].position == 5);
  CHECK(r.flying[1].rows[0].wants.sample);
  r.run();
  r.expect_complete(a);
  // As many positions as without: the length is known beforehand.
  CHECK(r.done.size() == 4);
  CHECK(r.policy.counts().surplus_tokens == 0);
  r.expect_empty();
}

TEST_CASE("ahead, a sequence found finished a tick late drops its surplus token",
          "[actors][batching][ahead]") {
  rig r{ahead_limits()};
  auto reference = test::fake_generate(rig::words(1, 5), 6, 1);
  auto s = rig::make(rig::words(1, 5), 6);
  s.stop_tokens = {reference.generated[2]};
  auto a = r.submit(s);
  auto b = r.submit(rig::words(60, 3), 6);
  r.run();
  CHECK(r.records[a].tokens.size() == 3);
  CHECK(r.records[a].end == sequence_end::stop_token);
  CHECK(r.policy.counts().surplus_tokens == 1);
  r.expect_reference(a);
  r.expect_complete(b);
  r.expect_empty();
}

TEST_CASE("ahead, sequences that need the host between tokens wait for it, alone",
          "[actors][batching][ahead]") {
  rig r{ahead_limits()};
  auto s = rig::make(rig::words(1, 3), 5);
  s.needs_host = true;
  auto a = r.submit(s);
  auto b = r.submit(rig::words(60, 3), 5);
  r.run();
  for (auto& done : r.done)
    for (auto& row : done.rows)
      if (row.sequence == a)
        CHECK(done.tokens[row.first_token] != pending_token);
  CHECK(std::any_of(r.done.begin(), r.done.end(), [](auto& x) { return pending_in(x) > 0; }));
  r.expect_complete(a);
  r.expect_complete(b);
}

TEST_CASE("ahead, memory that runs out preempts and loses nothing", "[actors][batching][ahead]") {
  auto limits = ahead_limits();
  limits.blocks = 9;
  rig r{limits};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 4; ++i)
    ids.push_back(r.submit(rig::words(i * 50, 5), 14));
  r.run();
  CHECK(r.policy.counts().preemptions > 0);
  for (auto id : ids)
    r.expect_complete(id);
  r.expect_empty();
}

TEST_CASE("ahead, a failed step takes the row that was built on it along",
          "[actors][batching][ahead]") {
  int failures = 2;
  rig r{ahead_limits(), 1, [&](const step& s, bool early) -> caf::error {
          if (early && s.id == step_id{3} && failures-- > 0)
            return caf::make_error(ec::step_fault, std::string{"chance"});
          return {};
        }};
  auto a = r.submit(rig::words(1, 5), 8);
  auto b = r.submit(rig::words(60, 4), 8);
  r.run();
  CHECK(r.policy.counts().step_faults >= 1);
  r.expect_complete(a);
  r.expect_complete(b);
  r.expect_empty();
}
