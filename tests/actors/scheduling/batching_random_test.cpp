#include "rig.hpp"

#include <random>

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;

namespace {

/// One random life of a policy: arrivals with common beginnings, finishes, parking, faults, lost
/// shards, at any moment. Whatever happens, each sequence says what the model says, no block is
/// lost, and in the end nothing is left.
uint64_t live_randomly(uint32_t seed) {
  std::mt19937 random{seed};
  auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  batching_limits limits;
  limits.block_tokens = 1 + pick(5);
  limits.blocks = (40 + pick(60)) / limits.block_tokens + 8;
  limits.max_step_tokens = 1 + pick(24);
  limits.max_sequences = 1 + pick(8);
  limits.max_waiting = 1000;
  limits.prefix_cache = pick(4) != 0;
  limits.prefill.first_chunk = 1 + pick(8);
  limits.prefill.min_chunk = 1 + pick(4);
  const auto depth = 1 + pick(3);
  limits.ahead = depth == 1 && pick(3) > 0;
  if (pick(2) == 0)
    limits.swap = {.host_blocks = pick(limits.blocks + 1), .block_ns = [] { return 1.0; }};
  const auto fault_rate = pick(3) == 0 ? 0 : 5 + pick(30);
  uint32_t faults = 0;
  rig r{limits, depth, [&](const step& s, bool) -> caf::error {
          for (auto t : s.tokens)
            if (t == 5000)
              return caf::make_error(ec::step_fault, std::string{"poisoned"});
          if (fault_rate > 0 && pick(fault_rate) == 0) {
            ++faults;
            return caf::make_error(ec::step_fault, std::string{"chance"});
          }
          return {};
        }};
  r.step_ns = [&](const step& s) { return (20 + s.tokens.size()) * 1'000'000; };

  std::vector<sequence_id> ids;
  std::vector<sequence_id> poisoned;
  const auto room = limits.blocks * limits.block_tokens;
  auto arrive = [&] {
    std::vector<int32_t> prompt(1 + pick(room / 3));
    for (size_t i = 0; i < prompt.size(); ++i)
      prompt[i] = static_cast<int32_t>(i < 12 ? i : pick(500));
    auto s = rig::make(prompt, 1 + pick(room / 3));
    s.priority = static_cast<int32_t>(pick(3));
    s.wants.prompt_logprobs = pick(6) == 0;
    s.sampling.sample = pick(2) == 0;
    s.sampling.seed = pick(100);
    if (pick(5) == 0)
      s.cache_salt = "salt";
    if (pick(5) == 0)
      s.rope_base = 500;
    s.needs_host = pick(4) == 0;
    // Beams side by side need room for each, which the smallest caches don't have.
    if (limits.max_sequences >= 3 && pick(4) == 0) {
      s.prompt.resize(std::min<size_t>(s.prompt.size(), room / 6));
      s.prompt.resize(std::max<size_t>(s.prompt.size(), 1));
      s.max_new_tokens = std::min(s.max_new_tokens, room / 12 + 1);
      s.search.kind = pick(2) == 0 ? search_kind::beams : search_kind::contrastive;
      s.search.lanes = 2 + pick(2);
      s.search.returned = s.search.lanes;
      s.search.length_penalty = pick(3);
      s.wants.top_n = static_cast<uint16_t>(pick(2));
    }
    bool poison = pick(20) == 0;
    if (poison)
      s.prompt[pick(static_cast<uint32_t>(s.prompt.size()))] = 5000;
    auto id = r.submit(s);
    ids.push_back(id);
    if (poison)
      poisoned.push_back(id);
  };

  for (int event = 0; event < 400; ++event) {
    switch (pick(12)) {
    case 0:
    case 1:
      if (ids.size() < 25)
        arrive();
      break;
    case 2:
      if (!ids.empty())
        r.policy.park(ids[pick(static_cast<uint32_t>(ids.size()))]);
      break;
    case 3:
      if (!ids.empty())
        r.policy.resume(ids[pick(static_cast<uint32_t>(ids.size()))]);
      break;
    case 4:
      if (pick(6) == 0 && !ids.empty())
        r.finish(ids[pick(static_cast<uint32_t>(ids.size()))]);
      break;
    case 5:
      if (pick(15) == 0)
        r.lose(depth);
      break;
    case 6:
    case 7:
    case 8:
      r.launch();
      break;
    default:
      r.land();
    }
    r.check();
  }
  for (auto id : ids)
    r.policy.resume(id);
  r.run();

  for (auto id : ids) {
    const auto& record = r.records[id];
    r.expect_reference(id);
    bool is_poisoned = std::find(poisoned.begin(), poisoned.end(), id) != poisoned.end();
    if (record.finished)
      continue;
    if (is_poisoned)
      CHECK(record.fault == caf::make_error(ec::step_fault));
    else if (faults == 0)
      r.expect_complete(id);
    else
      CHECK((record.fault || record.end == sequence_end::length));
  }
  r.expect_empty();
  CHECK(r.policy.swap().used() == 0);
  CHECK(r.policy.ledger().audit() == "");
  return r.policy.counts().swaps_in;
}

} // namespace

TEST_CASE("random lives of a policy never change a token nor lose a block",
          "[actors][batching][random]") {
  uint64_t swaps = 0;
  for (uint32_t seed = 0; seed < 240; ++seed) {
    INFO("seed " << seed);
    swaps += live_randomly(seed);
  }
  CHECK(swaps > 100);
}

TEST_CASE("without faults every KV position is computed once per life in the cache",
          "[actors][batching][random]") {
  std::mt19937 random{11};
  auto limits = rig::small_limits();
  limits.max_step_tokens = 7;
  rig r{limits, 2};
  for (int i = 0; i < 12; ++i)
    r.submit(rig::words(static_cast<int32_t>(i * 40), 1 + random() % 20), 1 + random() % 12);
  r.run();
  REQUIRE(r.policy.counts().preemptions == 0);
  std::map<std::pair<sequence_id, uint32_t>, int> computed;
  for (auto& s : r.done)
    for (auto& row : s.rows)
      for (uint32_t j = 0; j < row.token_count; ++j)
        ++computed[{row.sequence, row.position + j}];
  for (auto& [position, times] : computed)
    CHECK(times == 1);
  for (auto& [id, record] : r.records)
    for (uint32_t p = 0; p + 1 < record.spec.prompt.size() + record.tokens.size(); ++p)
      CHECK(computed.count({id, p}) == 1);
}
