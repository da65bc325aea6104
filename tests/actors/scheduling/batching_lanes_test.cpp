#include "rig.hpp"

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;

namespace {

new_sequence beams(std::vector<int32_t> prompt, uint32_t count, uint32_t lanes) {
  auto s = rig::make(std::move(prompt), count);
  s.search.kind = search_kind::beams;
  s.search.lanes = s.search.returned = lanes;
  return s;
}

new_sequence contrastive(std::vector<int32_t> prompt, uint32_t count, uint32_t lanes) {
  auto s = beams(std::move(prompt), count, lanes);
  s.search.kind = search_kind::contrastive;
  return s;
}

} // namespace

TEST_CASE("beams find what the algorithm finds, on any number of shards",
          "[actors][batching][lanes]") {
  const auto depth = GENERATE(1u, 2u, 3u);
  const auto lanes = GENERATE(2u, 4u);
  rig r{rig::small_limits(), depth};
  const auto id = r.submit(beams(rig::words(10, 9), 11, lanes));
  r.run();
  r.expect_complete(id);
  CHECK(r.records[id].outputs.size() == lanes);
  r.expect_empty();
}

TEST_CASE("contrastive search tells each token as soon as it is settled",
          "[actors][batching][lanes]") {
  rig r;
  const auto id = r.submit(contrastive(rig::words(10, 18), 7, 3));
  // Two steps for the prompt, one for the first token's candidates.
  for (int i = 0; i < 3; ++i) {
    r.launch();
    r.land();
  }
  CHECK(r.records[id].tokens.size() == 1);
  r.run();
  r.expect_complete(id);
  CHECK(r.records[id].tokens.size() == 7);
  r.expect_empty();
}

TEST_CASE("beams share the blocks that they have in common and copy only a last one",
          "[actors][batching][lanes]") {
  auto limits = rig::small_limits();
  limits.blocks = 8 + 4 * 2; // 8 of the prompt, and two of each beam
  rig r{limits};
  r.submit(beams(rig::words(0, 34), 6, 4));
  while (r.records.begin()->second.outputs.empty()) {
    r.launch();
    CHECK(r.policy.load().running == 4);
    r.land();
  }
  CHECK(r.policy.counts().preemptions == 0);
  size_t copies = 0;
  for (const auto& s : r.done)
    copies += s.copies.size();
  CHECK(copies >= 3);
  r.expect_empty();
}

TEST_CASE("a search that needs more places or blocks than there are is refused at once",
          "[actors][batching][lanes]") {
  auto limits = rig::small_limits();
  limits.blocks = 10;
  rig r{limits};
  auto refused = r.policy.admit(beams({1}, 4, 5));
  REQUIRE(!refused);
  CHECK(refused.error() == caf::make_error(ec::invalid_request));
  CHECK(text_of(refused.error()).find("max_rolling_batch_size") != std::string::npos);
  CHECK(!r.policy.admit(beams(rig::words(0, 8), 12, 4)));
  CHECK(r.policy.admit(beams(rig::words(0, 8), 9, 4)));
}

TEST_CASE("a search that fills the cache alone gets through", "[actors][batching][lanes]") {
  const auto kind = GENERATE(search_kind::beams, search_kind::contrastive);
  auto limits = rig::small_limits();
  limits.blocks = 2 + 4 * 3;
  rig r{limits};
  auto s = beams(rig::words(0, 9), kind == search_kind::beams ? 12 : 11, 4);
  s.search.kind = kind;
  const auto id = r.submit(s);
  r.run();
  r.expect_complete(id);
  r.expect_empty();
}

TEST_CASE("searches that lose their blocks in the middle find the same",
          "[actors][batching][lanes]") {
  auto limits = rig::small_limits();
  limits.blocks = 26;
  limits.max_sequences = 9;
  limits.prefix_cache = GENERATE(true, false);
  rig r{limits, GENERATE(1u, 2u)};
  std::vector<sequence_id> ids;
  for (int32_t i = 0; i < 3; ++i) {
    ids.push_back(r.submit(beams(rig::words(i * 50, 9), 14, 3)));
    ids.push_back(r.submit(contrastive(rig::words(i * 50, 13), 12, 3)));
    ids.push_back(r.submit(rig::words(i * 60, 12), 20));
  }
  r.run();
  CHECK(r.policy.counts().preemptions > 0);
  for (auto id : ids)
    r.expect_complete(id);
  r.expect_empty();
}

TEST_CASE("searches go on where they were when the shards are lost at any moment",
          "[actors][batching][lanes]") {
  const auto when = GENERATE(range(1, 14));
  rig r{rig::small_limits(), 2};
  const auto first = r.submit(beams(rig::words(0, 18), 8, 3));
  for (int i = 0; i < when; ++i) {
    r.launch();
    if (i % 2 == 0)
      r.land();
  }
  r.lose(2);
  const auto second = r.submit(contrastive(rig::words(5, 7), 6, 2));
  r.run();
  r.expect_complete(first);
  r.expect_complete(second);
  r.expect_empty();
}

TEST_CASE("a step that fails takes no beam along but the culprit's search",
          "[actors][batching][lanes]") {
  int failures = 0;
  rig r{rig::small_limits(), 1, [&](const step& s, bool) -> caf::error {
          for (auto t : s.tokens)
            if (t == 5000)
              return caf::make_error(ec::step_fault, std::string{"poisoned"});
          // Every fifth step that holds several rows fails once, in its middle.
          if (s.rows.size() > 1 && ++failures % 5 == 0)
            return caf::make_error(ec::step_fault, std::string{"chance"});
          return {};
        }};
  const auto good = r.submit(beams(rig::words(0, 9), 10, 3));
  r.run();
  CHECK(failures >= 5);
  r.expect_complete(good);
  const auto bad = r.submit(beams({1, 2, 5000, 4}, 10, 3));
  r.run();
  CHECK(r.records[bad].fault == caf::make_error(ec::step_fault));
  r.expect_empty();
}

TEST_CASE("a fault of one beam's row ends its search and nobody else's",
          "[actors][batching][lanes]") {
  rig r;
  const auto searching = r.submit(beams(rig::words(0, 6), 10, 3));
  const auto other = r.submit(rig::words(40, 6), 10);
  uint32_t rows = 0;
  r.row_trouble = [&](const step_row& row) {
    return row.wants.candidates > 0 && ++rows == 6 ? "broken" : "";
  };
  r.run();
  CHECK(r.records[searching].fault == caf::make_error(ec::row_fault));
  r.expect_complete(other);
  r.expect_empty();
}

TEST_CASE("a search can be parked, resumed and finished like any sequence",
          "[actors][batching][lanes]") {
  rig r;
  const auto id = r.submit(beams(rig::words(0, 6), 10, 3));
  for (int i = 0; i < 4; ++i) {
    r.launch();
    r.land();
  }
  r.policy.park(id);
  r.check();
  CHECK(!r.launch());
  CHECK(r.policy.live().size() == 1);
  r.policy.resume(id);
  r.check();
  CHECK(r.launch());
  r.finish(id);
  r.run();
  CHECK(!r.records[id].end);
  r.expect_empty();
}
