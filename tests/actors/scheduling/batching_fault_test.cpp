#include "rig.hpp"

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;
using test::with;

TEST_CASE("of a failing step only the culprit ends", "[actors][batching][fault]") {
  auto early = GENERATE(true, false);
  auto depth = GENERATE(1u, 2u);
  rig r{with([](auto& l) {
          l.max_sequences = 8;
          l.max_step_tokens = 64;
        }),
        depth, [&](const step& s, bool now) -> caf::error {
          for (auto t : s.tokens)
            if (t == 5000 && now == early)
              return caf::make_error(ec::step_fault, std::string{"poisoned"});
          return {};
        }};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 8; ++i) {
    auto prompt = rig::words(i * 20, 6);
    if (i == 5)
      prompt[3] = 5000;
    ids.push_back(r.submit(prompt, 5));
  }
  r.run();
  for (int i = 0; i < 8; ++i) {
    if (i == 5) {
      CHECK(r.records[ids[5]].fault == caf::make_error(ec::step_fault));
      CHECK(text_of(r.records[ids[5]].fault) == "poisoned");
    } else {
      r.expect_complete(ids[static_cast<size_t>(i)]);
    }
  }
  // 8 rows fail, then 4, 2 and 1 of them.
  CHECK(r.policy.counts().step_faults == 4);
  r.expect_empty();
}

TEST_CASE("a fault that doesn't come back ends nobody", "[actors][batching][fault]") {
  auto depth = GENERATE(1u, 2u, 3u);
  auto when = GENERATE(range(0, 7));
  int calls = 0;
  rig r{rig::small_limits(), depth, [&](const step&, bool early) -> caf::error {
          if (!early && calls++ == when)
            return caf::make_error(ec::step_fault, std::string{"once"});
          return {};
        }};
  std::vector<sequence_id> ids{r.submit(rig::words(1, 40), 6), r.submit(rig::words(100, 3), 6),
                               r.submit(rig::words(200, 3), 6)};
  r.run();
  CHECK(r.policy.counts().step_faults == 1);
  for (auto id : ids)
    r.expect_complete(id);
  r.expect_empty();
}

TEST_CASE("a lone stream survives a single fault", "[actors][batching][fault]") {
  int calls = 0;
  rig r{rig::small_limits(), 1, [&](const step&, bool early) -> caf::error {
          if (early && ++calls == 3)
            return caf::make_error(ec::out_of_memory, std::string{"for a moment"});
          return {};
        }};
  auto a = r.submit(rig::words(1, 5), 6);
  r.run();
  r.expect_complete(a);
}

TEST_CASE("a fault that always comes back ends everyone, one by one", "[actors][batching][fault]") {
  rig r{rig::small_limits(), 2, [&](const step&, bool early) -> caf::error {
          if (early)
            return caf::make_error(ec::step_fault, std::string{"always"});
          return {};
        }};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 6; ++i)
    ids.push_back(r.submit(rig::words(i * 10, 5), 6));
  r.run();
  for (auto id : ids)
    CHECK(r.records[id].fault == caf::make_error(ec::step_fault));
  r.expect_empty();
}

TEST_CASE("a row's fault ends that row's sequence alone", "[actors][batching][fault]") {
  rig r;
  auto a = r.submit(rig::words(1, 5), 6);
  auto b = r.submit(rig::words(50, 5), 6);
  r.row_trouble = [&](const step_row& row) {
    return row.sequence == b && row.position == 7 ? std::string{"not finite"} : std::string{};
  };
  r.run();
  r.expect_complete(a);
  CHECK(r.records[b].tokens.size() == 3);
  CHECK(r.records[b].fault == caf::make_error(ec::row_fault));
  CHECK(r.policy.counts().step_faults == 0);
  CHECK(r.policy.counts().row_faults == 1);
  r.expect_empty();
}

TEST_CASE("after a fault a sequence is introduced again with its whole table",
          "[actors][batching][fault]") {
  int calls = 0;
  rig r{rig::small_limits(), 1, [&](const step&, bool early) -> caf::error {
          if (early && ++calls == 3)
            return caf::make_error(ec::step_fault, std::string{"once"});
          return {};
        }};
  r.submit(rig::words(1, 9), 6);
  r.run();
  auto& again = r.done[3];
  REQUIRE(again.starts.size() == 1);
  CHECK(again.starts[0].prompt_length == 9);
  CHECK(again.starts[0].history.size() == 11);
  CHECK(again.rows[0].position == 10);
  CHECK(again.rows[0].block_count == 3);
}

TEST_CASE("chunks behind a failed one count for nothing", "[actors][batching][fault]") {
  int calls = 0;
  rig r{rig::small_limits(), 3, [&](const step&, bool early) -> caf::error {
          if (!early && ++calls == 1)
            return caf::make_error(ec::step_fault, std::string{"first chunk"});
          return {};
        }};
  auto a = r.submit(rig::words(1, 40), 4);
  r.launch();
  r.launch();
  r.launch();
  r.land();
  CHECK(r.policy.load().blocks_cached == 0);
  CHECK(!r.launch()); // two chunks are still out there
  r.land();
  r.land();
  r.launch();
  CHECK(r.flying[0].rows[0].position == 0);
  r.run();
  r.expect_complete(a);
}

TEST_CASE("ids to be dropped are said again when their step failed", "[actors][batching][fault]") {
  int calls = 0;
  rig r{rig::small_limits(), 1, [&](const step&, bool early) -> caf::error {
          if (early && ++calls == 2)
            return caf::make_error(ec::step_fault, std::string{"once"});
          return {};
        }};
  auto a = r.submit(rig::words(1, 5), 1);
  r.launch();
  r.land();
  auto b = r.submit(rig::words(50, 5), 2);
  r.launch();
  CHECK(r.flying[0].dropped == std::vector{a});
  r.land();
  r.launch();
  CHECK(r.flying[0].dropped == std::vector{a});
  r.run();
  r.expect_complete(b);
}

TEST_CASE("a result that names other rows is a failed step", "[actors][batching][fault]") {
  rig r;
  auto a = r.submit(rig::words(1, 5), 3);
  r.launch();
  step_result wrong;
  wrong.id = r.flying[0].id;
  wrong.rows.resize(2);
  std::vector<sequence_event> events;
  r.pipe.land(r.flying[0].epoch, r.flying[0].id);
  r.flying.clear();
  r.policy.apply(wrong, events);
  CHECK(events.empty());
  CHECK(r.policy.counts().step_faults == 1);
  r.run();
  r.expect_complete(a);
}

TEST_CASE("a result without the token it owes ends that sequence", "[actors][batching][fault]") {
  rig r;
  auto a = r.submit(rig::words(1, 5), 3);
  r.launch();
  step_result empty;
  empty.id = r.flying[0].id;
  empty.rows.resize(1);
  empty.rows[0].sequence = a;
  std::vector<sequence_event> events;
  r.policy.apply(empty, events);
  REQUIRE(events.size() == 1);
  CHECK(events[0].fault == caf::make_error(ec::internal));
  r.expect_empty();
}

TEST_CASE("when all KV is lost the streams go on with the same tokens",
          "[actors][batching][epoch]") {
  auto depth = GENERATE(1u, 2u);
  auto when = GENERATE(range(1, 14));
  rig r{rig::small_limits(), depth};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 6; ++i)
    ids.push_back(r.submit(rig::words(i * 50, 3 + static_cast<size_t>(i) * 4), 7));
  for (int i = 0; i < when; ++i) {
    while (r.launch()) {
    }
    r.land();
  }
  while (r.launch()) {
  }
  r.finish(ids[1]);
  r.lose(depth);
  CHECK(r.policy.load().blocks_used == 0);
  CHECK(r.policy.load().blocks_cached == 0);
  r.run();
  for (auto id : ids)
    if (r.records[id].finished)
      r.expect_reference(id);
    else
      r.expect_complete(id);
  r.expect_empty();
}
