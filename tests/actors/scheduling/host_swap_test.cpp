#include "rig.hpp"

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;

namespace {

/// More sequences than blocks; a prompt token takes a millisecond, a block moves in `block_ns`.
batching_limits tight_limits(uint32_t host_blocks, double block_ns) {
  auto l = rig::small_limits();
  l.blocks = 9;
  l.prefix_cache = false;
  l.swap = {.host_blocks = host_blocks, .block_ns = [=] { return block_ns; }};
  return l;
}

std::vector<sequence_id> run_four(rig& r) {
  r.step_ns = [](const step& s) { return s.tokens.size() * 1'000'000; };
  std::vector<sequence_id> ids;
  for (int i = 0; i < 4; ++i)
    ids.push_back(r.submit(rig::words(i * 50, 5), 14));
  r.run();
  return ids;
}

size_t positions_in(const rig& r) {
  size_t sum = 0;
  for (const auto& s : r.done)
    sum += s.tokens.size();
  return sum;
}

} // namespace

TEST_CASE("moving pays when it is faster than computing again", "[actors][batching][swap]") {
  double block_ns = 10;
  host_swap swap{{.host_blocks = 5, .block_ns = [&] { return block_ns; }}};
  CHECK(swap.pays(2, 32, 2));  // 40 against 64
  CHECK(!swap.pays(2, 32, 1)); // 40 against 32
  CHECK(!swap.pays(2, 32, 0)); // nobody knows what a token takes
  CHECK(!swap.pays(6, 600, 99));
  CHECK(!swap.pays(0, 0, 99));
  block_ns = 0;
  CHECK(!swap.pays(2, 32, 99)); // nor what a move takes
  CHECK(!host_swap{{}}.pays(1, 16, 99));
}

TEST_CASE("places in host memory are given out once", "[actors][batching][swap]") {
  host_swap swap{{.host_blocks = 3, .block_ns = nullptr}};
  auto a = swap.take(2);
  REQUIRE(a);
  CHECK(a->at(0) != a->at(1));
  CHECK(!swap.take(2));
  auto b = swap.take(1);
  REQUIRE(b);
  CHECK(std::find(a->begin(), a->end(), b->front()) == a->end());
  swap.give_back(*a);
  CHECK(a->empty());
  CHECK(swap.used() == 1);
  CHECK(swap.take(2));
}

TEST_CASE("a preempted sequence comes back from host memory without being computed again",
          "[actors][batching][swap]") {
  const auto depth = GENERATE(1u, 3u);
  rig r{tight_limits(100, 1000), depth};
  auto ids = run_four(r);
  CHECK(r.policy.counts().preemptions > 0);
  CHECK(r.policy.counts().swaps_out > 0);
  CHECK(r.policy.counts().swaps_in == r.policy.counts().swaps_out);
  for (auto id : ids)
    r.expect_complete(id);
  // 5 + 13 positions each, none twice.
  CHECK(positions_in(r) == 4 * 18);
  r.expect_empty();
  CHECK(r.policy.swap().used() == 0);

  rig again{tight_limits(0, 1000), depth};
  run_four(again);
  CHECK(again.policy.counts().swaps_out == 0);
  CHECK(positions_in(again) > 4 * 18);
}

TEST_CASE("a slow link or a full host means computing again", "[actors][batching][swap]") {
  rig slow{tight_limits(100, 1e9)};
  for (auto id : run_four(slow))
    slow.expect_complete(id);
  CHECK(slow.policy.counts().preemptions > 0);
  CHECK(slow.policy.counts().swaps_out == 0);

  rig full{tight_limits(1, 1000)};
  for (auto id : run_four(full))
    full.expect_complete(id);
  CHECK(full.policy.counts().preemptions > 0);
  CHECK(full.policy.counts().swaps_out == 0);
}

TEST_CASE("ahead, sequences come back from host memory too", "[actors][batching][swap][ahead]") {
  auto limits = tight_limits(100, 1000);
  limits.ahead = true;
  rig r{limits};
  for (auto id : run_four(r))
    r.expect_complete(id);
  CHECK(r.policy.counts().swaps_in > 0);
  r.expect_empty();
}

TEST_CASE("what a failed step has moved is computed again", "[actors][batching][swap]") {
  int failures = 0;
  rig r{tight_limits(100, 1000), 1, [&](const step& s, bool early) -> caf::error {
          if (early && (!s.swaps_out.empty() || !s.swaps_in.empty()) && failures < 2) {
            ++failures;
            return caf::make_error(ec::step_fault, std::string{"chance"});
          }
          return {};
        }};
  auto ids = run_four(r);
  CHECK(failures == 2);
  for (auto id : ids)
    r.expect_complete(id);
  r.expect_empty();
  CHECK(r.policy.swap().used() == 0);
}

TEST_CASE("lost shards take host memory along", "[actors][batching][swap]") {
  rig r{tight_limits(100, 1000)};
  r.step_ns = [](const step& s) { return s.tokens.size() * 1'000'000; };
  std::vector<sequence_id> ids;
  for (int i = 0; i < 4; ++i)
    ids.push_back(r.submit(rig::words(i * 50, 5), 14));
  while (r.policy.swap().used() == 0) {
    REQUIRE(r.launch());
    r.land();
  }
  r.lose(1);
  CHECK(r.policy.swap().used() == 0);
  r.run();
  for (auto id : ids)
    r.expect_complete(id);
}
