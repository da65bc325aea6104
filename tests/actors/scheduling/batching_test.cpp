#include "rig.hpp"

#include <set>

using namespace troupe;
using namespace troupe::scheduling;
using test::rig;
using test::with;

namespace {

/// Token counts of a step's rows.
std::vector<uint32_t> counts(const step& s) {
  std::vector<uint32_t> result;
  for (auto& row : s.rows)
    result.push_back(row.token_count);
  return result;
}

std::vector<sequence_id> who(const step& s) {
  std::vector<sequence_id> result;
  for (auto& row : s.rows)
    result.push_back(row.sequence);
  return result;
}

} // namespace

TEST_CASE("a prompt is computed, then a token per step follows", "[actors][batching]") {
  rig r;
  auto a = r.submit(rig::words(1, 5), 3);
  r.run();
  REQUIRE(r.done.size() == 3);
  CHECK(counts(r.done[0]) == std::vector<uint32_t>{5});
  CHECK(r.done[0].rows[0].wants.sample);
  CHECK(r.done[0].starts.size() == 1);
  CHECK(r.done[0].starts[0].history == rig::words(1, 5));
  CHECK(counts(r.done[1]) == std::vector<uint32_t>{1});
  CHECK(r.done[1].rows[0].position == 5);
  CHECK(r.done[1].starts.empty());
  r.expect_complete(a);
  r.expect_empty();
}

TEST_CASE("running sequences come first, prompts fill the rest of the budget",
          "[actors][batching]") {
  rig r;
  auto a = r.submit(rig::words(1, 3), 6);
  r.launch();
  r.land();
  auto b = r.submit(rig::words(50, 40), 2);
  r.launch();
  CHECK(who(r.flying[0]) == std::vector{a, b});
  CHECK(counts(r.flying[0]) == std::vector<uint32_t>{1, 15});
  CHECK(!r.flying[0].rows[1].wants.sample);
  r.run();
  r.expect_complete(a);
  r.expect_complete(b);
}

TEST_CASE("prompts are served in order of arrival", "[actors][batching]") {
  rig r;
  auto a = r.submit(rig::words(1, 12), 2);
  auto b = r.submit(rig::words(50, 12), 2);
  auto c = r.submit(rig::words(90, 12), 2);
  r.launch();
  CHECK(who(r.flying[0]) == std::vector{a, b});
  CHECK(counts(r.flying[0]) == std::vector<uint32_t>{12, 4});
  r.run();
  for (auto id : {a, b, c})
    r.expect_complete(id);
}

TEST_CASE("a lower priority number goes first", "[actors][batching]") {
  rig r;
  auto a = r.submit(rig::words(1, 30), 2);
  r.launch();
  auto urgent = rig::make(rig::words(50, 20), 2);
  urgent.priority = 1;
  auto b = r.submit(urgent);
  r.land();
  r.launch();
  CHECK(who(r.flying[0]) == std::vector{b});
  r.run();
  r.expect_complete(a);
  r.expect_complete(b);
}

TEST_CASE("among equal priorities the lower turn goes first, then who came first",
          "[actors][batching]") {
  rig r{with([](auto& l) { l.max_sequences = 1; })};
  std::vector<sequence_id> ids;
  for (uint64_t turn : {0, 7, 3, 3}) {
    auto s = rig::make(rig::words(static_cast<int32_t>(ids.size() * 10), 2), 1);
    s.turn = turn;
    ids.push_back(r.submit(s));
  }
  std::vector<sequence_id> order;
  while (r.launch()) {
    order.push_back(who(r.flying[0]).front());
    r.land();
  }
  CHECK(order == std::vector{ids[0], ids[2], ids[3], ids[1]});
}

TEST_CASE("no more sequences run than there are slots", "[actors][batching]") {
  rig r{with([](auto& l) { l.max_sequences = 2; })};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 5; ++i)
    ids.push_back(r.submit(rig::words(i * 10, 2), 3));
  while (r.launch()) {
    CHECK(r.policy.load().running <= 2);
    r.land();
  }
  for (auto id : ids)
    r.expect_complete(id);
}

TEST_CASE("the waiting line has an end", "[actors][batching]") {
  rig r{with([](auto& l) {
    l.max_sequences = 1;
    l.max_waiting = 2;
  })};
  for (int i = 0; i < 3; ++i)
    r.submit({1, 2}, 1);
  auto refused = r.policy.admit(rig::make({1, 2}, 1));
  REQUIRE(!refused);
  CHECK(refused.error() == caf::make_error(ec::queue_full));
  r.launch();
  CHECK(!r.policy.admit(rig::make({1, 2}, 1))); // two wait, none may join them
  r.land();
  r.submit({1, 2}, 1); // for the slot that is free now
  CHECK(!r.policy.admit(rig::make({1, 2}, 1)));
  r.run();
  r.expect_empty();
}

TEST_CASE("what can never fit the KV cache is refused", "[actors][batching]") {
  rig r{with([](auto& l) { l.blocks = 4; })};
  auto a = r.submit(rig::words(1, 10), 7); // the last token needs no position
  auto refused = r.policy.admit(rig::make(rig::words(1, 10), 8));
  REQUIRE(!refused);
  CHECK(refused.error() == caf::make_error(ec::invalid_request));
  CHECK(!r.policy.admit(rig::make({}, 1)));
  CHECK(!r.policy.admit(rig::make({1}, 0)));
  r.run();
  r.expect_complete(a);
}

TEST_CASE("a sequence that comes from a lost copy goes on where it was", "[actors][batching]") {
  rig r;
  auto whole = rig::make(rig::words(1, 5), 7);
  whole.sampling.repetition_penalty = 1.5f;
  const auto there = r.submit(whole);
  r.run();
  const auto said = r.records[there].tokens;
  REQUIRE(said.size() == 7);
  const auto before = r.done.size();
  auto rest = whole;
  rest.prompt.insert(rest.prompt.end(), said.begin(), said.begin() + 3);
  rest.generated = 3;
  const auto here = r.submit(rest);
  r.run();
  CHECK(r.records[here].tokens == std::vector<int32_t>(said.begin() + 3, said.end()));
  CHECK(r.records[here].end == sequence_end::length);
  const auto& start = r.done[before].starts.at(0);
  CHECK(start.prompt_length == 5); // So that penalties know what is the prompt.
  CHECK(start.history == rest.prompt);
  r.expect_empty();
  rest.generated = 7; // All of them: there is nothing to draw.
  CHECK(!r.policy.admit(rest));
  rest.max_new_tokens = 100;
  rest.generated = 8; // No prompt is left.
  CHECK(!r.policy.admit(rest));
}

TEST_CASE("a stop token ends a sequence and is delivered", "[actors][batching]") {
  rig r;
  auto reference = test::fake_generate(rig::words(1, 5), 6, 1);
  auto s = rig::make(rig::words(1, 5), 6);
  s.stop_tokens = {-1, reference.generated[3]};
  auto a = r.submit(s);
  r.run();
  CHECK(r.records[a].tokens.size() == 4);
  CHECK(r.records[a].end == sequence_end::stop_token);
  r.expect_empty();
}

TEST_CASE("a stop token as the last allowed one counts as a stop", "[actors][batching]") {
  rig r;
  auto reference = test::fake_generate(rig::words(1, 5), 2, 1);
  auto s = rig::make(rig::words(1, 5), 2);
  s.stop_tokens = {reference.generated[1]};
  auto a = r.submit(s);
  r.run();
  CHECK(r.records[a].end == sequence_end::stop_token);
}

TEST_CASE("any chunk size gives the same tokens", "[actors][batching]") {
  auto chunk = GENERATE(1u, 3u, 4u, 7u, 16u, 64u);
  auto depth = GENERATE(1u, 2u, 3u);
  rig r{with([&](auto& l) { l.max_step_tokens = chunk; }), depth};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 6; ++i)
    ids.push_back(r.submit(rig::words(i * 50, 5 + static_cast<size_t>(i) * 7), 6));
  r.run();
  for (auto id : ids)
    r.expect_complete(id);
  r.expect_empty();
}

TEST_CASE("when blocks run out the youngest gives way and loses nothing", "[actors][batching]") {
  auto depth = GENERATE(1u, 2u);
  rig r{with([](auto& l) { l.blocks = 9; }), depth};
  auto a = r.submit(rig::words(1, 6), 24);
  auto b = r.submit(rig::words(50, 6), 24);
  auto c = r.submit(rig::words(90, 6), 24);
  r.run();
  CHECK(r.policy.counts().preemptions > 0);
  for (auto id : {a, b, c})
    r.expect_complete(id);
  r.expect_empty();
}

TEST_CASE("the oldest is never preempted for a younger one", "[actors][batching]") {
  rig r{with([](auto& l) { l.blocks = 9; })};
  auto a = r.submit(rig::words(1, 6), 24);
  r.submit(rig::words(50, 6), 24);
  r.submit(rig::words(90, 6), 24);
  r.run();
  size_t starts = 0;
  for (auto& s : r.done)
    for (auto& start : s.starts)
      starts += start.sequence == a;
  CHECK(starts == 1);
}

TEST_CASE("a parked sequence keeps its KV, runs in no step and goes on afterwards",
          "[actors][batching]") {
  rig r;
  auto a = r.submit(rig::words(1, 6), 8);
  auto b = r.submit(rig::words(50, 6), 20);
  r.launch();
  r.land();
  auto used = r.policy.load().blocks_used;
  r.policy.park(a);
  r.check();
  CHECK(r.policy.load().parked == 1);
  for (int i = 0; i < 5; ++i) {
    r.launch();
    CHECK(who(r.flying[0]) == std::vector{b});
    r.land();
  }
  CHECK(r.policy.load().blocks_used >= used);
  CHECK(r.records[a].tokens.size() == 1);
  r.policy.resume(a);
  r.check();
  r.run();
  r.expect_complete(a);
  r.expect_complete(b);
  CHECK(r.policy.counts().preemptions == 0);
}

TEST_CASE("parked sequences give way first, and still lose nothing", "[actors][batching]") {
  rig r{with([](auto& l) { l.blocks = 8; })};
  auto a = r.submit(rig::words(1, 8), 4);
  auto b = r.submit(rig::words(50, 8), 20);
  r.launch();
  r.land();
  r.policy.park(a);
  r.run();
  r.expect_complete(b);
  CHECK(r.policy.counts().preemptions == 1);
  CHECK(r.policy.load().blocks_used == 0);
  r.policy.resume(a);
  r.run();
  r.expect_complete(a);
  r.expect_empty();
}

TEST_CASE("a finished sequence's blocks come back when no step names them any more",
          "[actors][batching]") {
  rig r;
  auto a = r.submit(rig::words(1, 6), 20);
  auto b = r.submit(rig::words(50, 6), 3);
  r.launch();
  r.land();
  r.launch();
  auto used = r.policy.load().blocks_used;
  r.finish(a);
  CHECK(r.policy.load().blocks_used == used);
  r.land();
  CHECK(r.policy.load().blocks_used < used);
  CHECK(r.policy.counts().surplus_tokens == 1);
  CHECK(r.records[a].tokens.size() == 1);
  r.launch();
  CHECK(r.flying[0].dropped == std::vector{a});
  r.run();
  r.expect_complete(b);
  r.expect_empty();
}

TEST_CASE("a waiting sequence that nobody wants leaves at once", "[actors][batching]") {
  rig r{with([](auto& l) { l.max_sequences = 1; })};
  auto a = r.submit({1, 2}, 2);
  auto b = r.submit({3, 4}, 2);
  r.launch();
  CHECK(r.policy.never_started(b));
  CHECK(!r.policy.never_started(a));
  r.finish(b);
  CHECK(r.policy.load().waiting == 0);
  CHECK(!r.policy.finish(b));
  CHECK(!r.policy.finish(sequence_id{999}));
  r.run();
  CHECK(r.records[b].tokens.empty());
  r.expect_empty();
}

TEST_CASE("a common beginning is computed once", "[actors][batching][prefix]") {
  rig r;
  auto a = r.submit(rig::words(1, 14), 2);
  r.run();
  auto b = r.submit(rig::words(1, 14), 2);
  r.run();
  CHECK(r.records[a].cached == 0);
  CHECK(r.records[b].cached == 12);
  CHECK(r.done[2].rows[0].position == 12);
  CHECK(r.done[2].rows[0].block_count == 4);
  r.expect_complete(b);
}

TEST_CASE("the last prompt token is computed even when all of it is cached",
          "[actors][batching][prefix]") {
  rig r;
  r.submit(rig::words(1, 12), 3);
  r.run();
  auto b = r.submit(rig::words(1, 12), 3);
  r.run();
  CHECK(r.records[b].cached == 8);
  r.expect_complete(b);
}

TEST_CASE("generated tokens can be a later prompt's beginning", "[actors][batching][prefix]") {
  rig r;
  auto a = r.submit(rig::words(1, 6), 10);
  r.run();
  auto turn = rig::words(1, 6);
  auto& said = r.records[a].tokens;
  turn.insert(turn.end(), said.begin(), said.end());
  turn.insert(turn.end(), {900, 901});
  auto b = r.submit(turn, 4);
  r.run();
  // 15 positions were computed: the last token was never fed.
  CHECK(r.records[b].cached == 12);
  r.expect_complete(b);
}

TEST_CASE("a block is found only once its step is done", "[actors][batching][prefix]") {
  rig r{rig::small_limits(), 2};
  r.submit(rig::words(1, 14), 2);
  r.launch();
  auto other = rig::words(1, 30); // shares too little with the first to wait for it
  other[14] = 500;
  auto b = r.submit(other, 2);
  r.launch();
  CHECK(r.flying[1].rows[0].position == 0);
  r.run();
  CHECK(r.records[b].cached == 0);
  r.expect_complete(b);
}

TEST_CASE("choices of one prompt wait until its first has computed it",
          "[actors][batching][prefix]") {
  auto depth = GENERATE(1u, 2u);
  rig r{with([](auto& l) { l.max_sequences = 8; }), depth};
  std::vector<sequence_id> ids;
  for (uint32_t i = 0; i < 4; ++i) {
    auto s = rig::make(rig::words(1, 30), 5);
    s.sampling.sample = true;
    s.sampling.sequence_index = i;
    ids.push_back(r.submit(s));
  }
  auto stranger = r.submit(rig::words(500, 3), 2);
  r.launch();
  r.launch();
  size_t tokens = 0;
  for (auto& s : r.flying)
    tokens += s.tokens.size();
  // The first one's chunks, and the stranger, who needs not wait for the others.
  CHECK(tokens == 16 * depth);
  r.run();
  for (size_t i = 1; i < 4; ++i)
    CHECK(r.records[ids[i]].cached == 28);
  for (auto id : ids)
    r.expect_complete(id);
  r.expect_complete(stranger);
  size_t computed = 0;
  for (auto& s : r.done)
    computed += s.tokens.size();
  CHECK(computed == 30 + 3 * 2 + 4 * 4 + 3 + 1);
}

TEST_CASE("who waited for another's blocks goes on alone when that one leaves",
          "[actors][batching][prefix]") {
  rig r;
  auto a = r.submit(rig::words(1, 60), 5);
  auto b = r.submit(rig::words(1, 60), 5);
  r.launch();
  CHECK(r.flying[0].rows.size() == 1);
  r.finish(a);
  r.land();
  r.run();
  r.expect_complete(b);
  CHECK(r.records[b].cached <= 16);
  r.expect_empty();
}

TEST_CASE("salts and rope bases don't share, prompt log-probabilities read nothing from the cache",
          "[actors][batching][prefix]") {
  rig r;
  r.submit(rig::words(1, 14), 1);
  r.run();
  auto salted = rig::make(rig::words(1, 14), 2);
  salted.cache_salt = "x";
  auto a = r.submit(salted);
  auto stretched = rig::make(rig::words(1, 14), 2);
  stretched.rope_base = 20000;
  auto b = r.submit(stretched);
  auto scored = rig::make(rig::words(1, 14), 2);
  scored.wants.prompt_logprobs = true;
  auto c = r.submit(scored);
  r.run();
  for (auto id : {a, b, c}) {
    CHECK(r.records[id].cached == 0);
    r.expect_complete(id);
  }
  CHECK(r.records[c].prompt_logprobs.size() == 13);
}

TEST_CASE("the prefix cache can be turned off", "[actors][batching][prefix]") {
  rig r{with([](auto& l) { l.prefix_cache = false; })};
  r.submit(rig::words(1, 14), 2);
  r.run();
  CHECK(r.policy.load().blocks_cached == 0);
  auto b = r.submit(rig::words(1, 14), 2);
  r.run();
  CHECK(r.records[b].cached == 0);
}

TEST_CASE("prompt log-probabilities are whole over chunks, preemption and faults",
          "[actors][batching]") {
  auto depth = GENERATE(1u, 2u);
  int calls = 0;
  rig r{with([](auto& l) {
          l.max_step_tokens = 5;
          l.blocks = 12;
        }),
        depth, [&](const step&, bool early) -> caf::error {
          if (!early && ++calls % 4 == 2)
            return caf::make_error(ec::step_fault, std::string{"now and then"});
          return {};
        }};
  std::vector<sequence_id> ids;
  for (int i = 0; i < 3; ++i) {
    auto s = rig::make(rig::words(i * 30, 17), 6);
    s.wants.prompt_logprobs = true;
    ids.push_back(r.submit(s));
  }
  r.run();
  for (auto id : ids) {
    if (!r.records[id].fault)
      r.expect_complete(id);
  }
  r.expect_empty();
}

TEST_CASE("drawn tokens depend on seed, sequence index and position alone", "[actors][batching]") {
  rig r{with([](auto& l) { l.blocks = 9; })};
  std::vector<sequence_id> ids;
  for (uint32_t i = 0; i < 3; ++i) {
    auto s = rig::make(rig::words(1, 6), 20);
    s.sampling.sample = true;
    s.sampling.seed = 42;
    s.sampling.sequence_index = i;
    ids.push_back(r.submit(s));
  }
  r.run();
  CHECK(r.policy.counts().preemptions > 0);
  for (auto id : ids)
    r.expect_complete(id);
  CHECK(r.records[ids[0]].tokens != r.records[ids[1]].tokens);
}

TEST_CASE("a long prompt beside streams takes small chunks as soon as costs are known",
          "[actors][batching][prefill_share]") {
  rig r{with([](auto& l) {
    l.max_step_tokens = 512;
    l.max_sequences = 32;
    l.blocks = 2000;
    l.prefill.min_chunk = 4;
  })};
  // 25 ms per step, 1 ms per decode row, 1.6 ms per prompt token.
  auto cost = [](const step& s) {
    uint64_t us = 25'000;
    for (auto& row : s.rows)
      us += row.token_count == 1 ? 1000 : row.token_count * 1600;
    return us * 1000;
  };
  r.step_ns = cost;
  std::vector<sequence_id> ids;
  for (int i = 0; i < 16; ++i)
    ids.push_back(r.submit(rig::words(i * 10, 8), 40));
  for (int i = 0; i < 5; ++i) {
    r.launch();
    r.land();
  }
  auto alone = cost(r.done.back());
  CHECK(r.done.back().rows.size() == 16);
  r.submit(rig::words(500, 400), 2);
  size_t beside = 0;
  for (;;) {
    r.launch();
    auto& s = r.flying[0];
    if (s.rows.size() < 17)
      break;
    ++beside;
    CHECK(cost(s) < 2 * alone);
    r.land();
  }
  CHECK(beside > 10);
  CHECK(beside < 60);
  r.run();
  for (auto id : ids)
    r.expect_complete(id);
}

TEST_CASE("a burst of short prompts fills the batch at once", "[actors][batching][prefill_share]") {
  rig r{with([](auto& l) {
    l.max_step_tokens = 512;
    l.max_sequences = 16;
    l.blocks = 2000;
  })};
  r.step_ns = [](const step& s) { return 25'000'000 + s.tokens.size() * 1'600'000; };
  for (int i = 0; i < 16; ++i)
    r.submit(rig::words(i * 200, 128), 4);
  for (int i = 0; i < 4; ++i) {
    r.launch();
    CHECK(r.flying[0].tokens.size() > 500);
    r.land();
  }
  r.run();
  r.expect_empty();
}
