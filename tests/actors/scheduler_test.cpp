#include "loop_fixture.hpp"

using namespace troupe;
using test::loop_fixture;

TEST_CASE_METHOD(loop_fixture, "a sequence gets its tokens one message each, then its end",
                 "[actors][scheduler]") {
  start(1);
  auto a = submit(words(1, 5), 4);
  run();
  expect_complete(a);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "a request that arrives mid-step joins the next step",
                 "[actors][scheduler]") {
  start(1);
  submit(words(1, 2), 3);
  step(brain); // the tick: step 1 is on its way
  CHECK(awaits<troupe::step>(shards[0]));
  submit(words(50, 1), 2);
  step(shards[0]);
  step(brain); // the tick of the arrival finds the pipeline full
  step(brain); // the result, which starts the next step
  REQUIRE(awaits<troupe::step>(shards[0]));
  CHECK(load().running == 2);
  run();
  CHECK(numbers->step_rows.sum() == 1 + 2 + 2); // one decode row beside one prompt row
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "any depth and chunk size gives the same tokens",
                 "[actors][scheduler]") {
  auto depth = GENERATE(1u, 2u, 3u);
  auto chunk = GENERATE(1u, 7u, 16u, 33u);
  limits.max_step_tokens = chunk;
  start(depth);
  std::vector<sequence_id> ids;
  for (int i = 0; i < 10; ++i)
    ids.push_back(submit(words(i * 40, 1 + static_cast<size_t>(i) * 5), 6));
  run();
  for (auto id : ids)
    expect_complete(id);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "with S shards S steps are in flight",
                 "[actors][scheduler][pipeline]") {
  auto depth = GENERATE(1u, 2u, 3u);
  start(depth);
  for (int i = 0; i < 6; ++i)
    submit(words(i * 40, 3), 10);
  int64_t most = 0;
  while (step())
    most = std::max(most, numbers->steps_in_flight.value());
  CHECK(most == depth);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture,
                 "the first shard starts a step before the second ends the one before",
                 "[actors][scheduler][pipeline]") {
  start(2);
  for (int i = 0; i < 6; ++i)
    submit(words(i * 40, 3), 12);
  run();
  using kind = shard_event::kind;
  auto at = [&](uint32_t shard, kind what, step_id id) {
    for (size_t i = 0; i < events.size(); ++i)
      if (events[i].shard == shard && events[i].what == what && events[i].id == id)
        return i;
    return events.size();
  };
  size_t overlaps = 0;
  auto last = events.back().id;
  for (uint64_t k = 1; k < static_cast<uint64_t>(last); ++k)
    overlaps += at(0, kind::begin, step_id{k + 1}) < at(1, kind::end, step_id{k});
  // Every other step at least: it starts while its predecessor is on the second shard.
  CHECK(overlaps * 2 >= static_cast<uint64_t>(last) - 2);
}

TEST_CASE_METHOD(loop_fixture, "a prefix that was seen is not computed again",
                 "[actors][scheduler][prefix]") {
  auto depth = GENERATE(1u, 2u);
  start(depth);
  auto a = submit(words(1, 30), 2);
  run();
  auto b = submit(words(1, 30), 5);
  run();
  CHECK(of(a).cached == 0);
  CHECK(of(b).cached == 28);
  expect_complete(b);
  CHECK(load().blocks_cached > 0);
}

TEST_CASE_METHOD(loop_fixture, "when blocks run out sequences give way and lose nothing",
                 "[actors][scheduler]") {
  auto depth = GENERATE(1u, 2u);
  limits.blocks = 12;
  start(depth);
  std::vector<sequence_id> ids;
  for (int i = 0; i < 5; ++i)
    ids.push_back(submit(words(i * 40, 6), 30));
  run();
  for (auto id : ids)
    expect_complete(id);
  CHECK(numbers->preemptions.value() > 0);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "a cancelled sequence frees its blocks within one step",
                 "[actors][scheduler]") {
  auto depth = GENERATE(1u, 2u);
  start(depth);
  auto a = submit(words(1, 10), 100);
  auto b = submit(words(50, 10), 20);
  while (of(a).tokens.size() < 5)
    step();
  auto used = numbers->blocks_used.value();
  auto before = numbers->steps.value();
  tell(brain, finish_atom_v, a);
  while (numbers->blocks_used.value() >= used && step()) {
  }
  // The steps in flight when it was cancelled, and no more.
  CHECK(numbers->steps.value() <= before + depth);
  CHECK(numbers->blocks_used.value() < used);
  run();
  auto heard_after = of(a).tokens.size();
  CHECK(heard_after <= 6);
  CHECK(of(a).end == sequence_end::finished);
  expect_complete(b);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "a receiver that dies takes its sequences along",
                 "[actors][scheduler]") {
  start(1);
  auto other = std::make_shared<test::heard_map>();
  auto mortal = sys.spawn(test::listener, other);
  submit(make(words(1, 5), 200), mortal);
  submit(make(words(20, 5), 200), mortal);
  auto b = submit(words(50, 5), 30);
  for (int i = 0; i < 20; ++i)
    step();
  CHECK(numbers->running.value() == 3);
  caf::anon_send_exit(mortal, caf::exit_reason::kill);
  mortal = token_receiver{};
  while (numbers->running.value() > 1 && step()) {
  }
  CHECK(numbers->running.value() == 1);
  run();
  expect_complete(b);
  CHECK(numbers->steps.value() < 40);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "a parked sequence waits with its KV and goes on",
                 "[actors][scheduler]") {
  start(1);
  auto a = submit(words(1, 5), 8);
  while (of(a).tokens.size() < 3)
    step();
  tell(brain, park_atom_v, a);
  run();
  auto so_far = of(a).tokens.size();
  CHECK(so_far < 8);
  auto l = load();
  CHECK(l.parked == 1);
  CHECK(l.blocks_used > 0);
  CHECK(numbers->parked.value() == 1);
  tell(brain, resume_atom_v, a);
  run();
  expect_complete(a);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "a finish from outside ends a sequence without a word",
                 "[actors][scheduler]") {
  start(1);
  auto a = submit(words(1, 5), 100);
  while (of(a).tokens.size() < 3)
    step();
  tell(brain, finish_atom_v, a);
  tell(brain, finish_atom_v, a);
  tell(brain, finish_atom_v, sequence_id{4711});
  run();
  CHECK(of(a).end == sequence_end::finished);
  CHECK(!of(a).fault);
  expect_said_so_far(a);
  CHECK(numbers->surplus_tokens.value() <= 1);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "a full line refuses the next one", "[actors][scheduler]") {
  limits.max_sequences = 1;
  limits.max_waiting = 1;
  start(1);
  submit(words(1, 5), 5);
  submit(words(1, 5), 5);
  auto refused = ask<sequence_id>(brain, submit_atom_v, make(words(1, 5), 5), ear);
  // The line was full when it asked, whatever has run since.
  REQUIRE(!refused);
  CHECK(refused.error() == caf::make_error(ec::queue_full));
  auto misfit = ask<sequence_id>(brain, submit_atom_v, make(words(1, 5), 5000), ear);
  REQUIRE(!misfit);
  CHECK(misfit.error() == caf::make_error(ec::invalid_request));
}

TEST_CASE_METHOD(loop_fixture, "who gets no slot in time hears of it, who gets one needs no timer",
                 "[actors][scheduler]") {
  limits.max_sequences = 1;
  start(1);
  auto quick = make(words(1, 5), 400);
  quick.slot_timeout_ms = 50;
  auto a = submit(quick);
  while (of(a).tokens.empty())
    step();
  CHECK(!has_pending_timeout());
  auto b = submit(quick);
  step(brain);
  CHECK(has_pending_timeout());
  auto c = submit(make(words(1, 5), 4));
  step(brain);
  advance(std::chrono::milliseconds(60));
  CHECK(of(b).fault == caf::make_error(ec::slot_timeout));
  CHECK(of(b).tokens.empty());
  run();
  expect_complete(a);
  expect_complete(c);
  expect_idle();
}

TEST_CASE_METHOD(loop_fixture, "draining ends everyone with the error and turns newcomers away",
                 "[actors][scheduler]") {
  start(2);
  auto a = submit(words(1, 5), 100);
  auto b = submit(words(30, 5), 100);
  while (of(a).tokens.size() < 3)
    step();
  tell(brain, drain_atom_v, caf::make_error(ec::shutting_down, std::string{"over"}));
  run();
  for (auto id : {a, b}) {
    CHECK(of(id).fault == caf::make_error(ec::shutting_down));
    expect_said_so_far(id);
  }
  auto refused = ask<sequence_id>(brain, submit_atom_v, make({1}, 1), ear);
  REQUIRE(!refused);
  CHECK(refused.error() == caf::make_error(ec::shutting_down));
  expect_idle();
  // New shards mean that the model is in service again.
  new_epoch(2);
  run();
  auto c = submit(words(1, 5), 3);
  run();
  expect_complete(c);
}

TEST_CASE_METHOD(loop_fixture, "without shards sequences wait for the first epoch",
                 "[actors][scheduler]") {
  start(1);
  tell(brain, lost_atom_v);
  run();
  auto a = submit(words(1, 5), 3);
  run();
  CHECK(of(a).tokens.empty());
  CHECK(load().waiting == 1);
  new_epoch(1);
  run();
  expect_complete(a);
}

TEST_CASE_METHOD(loop_fixture, "prompt log-probabilities come with the first token",
                 "[actors][scheduler]") {
  limits.max_step_tokens = 4;
  start(2);
  auto s = make(words(1, 11), 3);
  s.wants.prompt_logprobs = true;
  auto log = std::make_shared<std::vector<row_result>>();
  auto recorder = sys.spawn([log](token_receiver::pointer) -> token_receiver::behavior_type {
    return {
        [log](const token_batch& b) { log->insert(log->end(), b.tokens.begin(), b.tokens.end()); },
        [](done_atom, sequence_id, sequence_end) {},
        [](fault_atom, sequence_id, const caf::error&) {},
    };
  });
  submit(s, recorder);
  run();
  auto reference = test::fake_generate(words(1, 11), 3, 2);
  REQUIRE(log->size() == 3);
  REQUIRE(log->at(0).prompt.size() == 10);
  for (size_t i = 0; i < 10; ++i) {
    CHECK(log->at(0).prompt[i].token == words(1, 11)[i + 1]);
    CHECK(log->at(0).prompt[i].value == reference.prompt_logprobs[i]);
  }
  CHECK(log->at(1).prompt.empty());
}

TEST_CASE_METHOD(loop_fixture, "messages sent are messages handled once all is quiet",
                 "[actors][scheduler][telemetry]") {
  start(2);
  for (int i = 0; i < 3; ++i)
    submit(words(i * 30, 9), 5);
  run();
  auto& to_shards = metrics->actor(telemetry::actor_kind::shard);
  // The wiring came from the test, which counts nothing.
  CHECK(to_shards.handled.value() == to_shards.sent.value() + 2);
  CHECK(metrics->actor(telemetry::actor_kind::request).sent.value() == 3 * 6);
  CHECK(numbers->inter_token_time.count() == 3 * 4);
  CHECK(numbers->step_tokens.sum() == 3 * 9 + 3 * 4);
}

TEST_CASE_METHOD(loop_fixture, "a scheduler in another's place gives out other ids",
                 "[actors][scheduler]") {
  start(1);
  auto a = submit(words(1, 5), 3);
  run();
  caf::anon_send_exit(brain, caf::exit_reason::kill);
  scheduler_options options;
  options.limits = limits;
  options.model = numbers;
  brain = sys.spawn(scheduler, options);
  ++epoch;
  wire(); // the shards live on
  auto b = submit(words(1, 5), 3);
  run();
  CHECK(a != b);
  expect_complete(b);
}

TEST_CASE_METHOD(loop_fixture, "the padding that a padded batch would have had is measured",
                 "[actors][scheduler]") {
  start(1);
  submit(words(1, 8), 1); // starts at once, alone
  submit(words(40, 2), 1);
  submit(words(80, 6), 1);
  run();
  CHECK(numbers->batch_sparsity.count() == 2);
  CHECK(numbers->batch_sparsity.sum() == Approx(4.0 / 12)); // 4 + 0 of 2 x 6
}
