#include "loop_fixture.hpp"

using namespace troupe;
using test::loop_fixture;

namespace {

class streams : public loop_fixture {
public:
  /// As many streams as asked for, each with a prompt of its own.
  void submit_streams(int count, uint32_t tokens) {
    for (int i = 0; i < count; ++i) {
      auto s = make(words(i * 40, 3 + static_cast<size_t>(i) % 9), tokens);
      s.sampling.sample = i % 2 == 0;
      s.sampling.seed = static_cast<uint64_t>(i);
      ids.push_back(submit(s));
    }
  }

  void expect_all_complete() {
    for (auto id : ids)
      expect_complete(id);
    expect_idle();
  }

  size_t heard_in_all() {
    size_t sum = 0;
    for (auto id : ids)
      sum += of(id).tokens.size();
    return sum;
  }

  std::vector<sequence_id> ids;
};

caf::error step_fault(const char* text) {
  return caf::make_error(ec::step_fault, std::string{text});
}

} // namespace

TEST_CASE_METHOD(streams, "an exception at any step on any shard changes no token",
                 "[actors][scheduler][fault]") {
  auto depth = GENERATE(1u, 2u, 3u);
  auto early = GENERATE(true, false);
  auto throws = GENERATE(true, false);
  // Every pass of every shard in turn: each is a message of a step.
  for (uint32_t where = 0; where < depth; ++where)
    for (int when = 0; when < 8; ++when) {
      INFO("depth " << depth << " shard " << where << " call " << when);
      streams s;
      int calls = 0;
      s.trouble = [&](uint32_t shard, const troupe::step&, bool now) -> caf::error {
        if (shard != where || now != early || calls++ != when)
          return {};
        if (throws)
          throw std::runtime_error("provoked");
        return step_fault("provoked");
      };
      s.start(depth);
      s.submit_streams(5, 6);
      s.run();
      // A chunk behind the one that should have introduced its sequence fails with it.
      CHECK(s.numbers->step_faults.value() >= 1);
      CHECK(s.numbers->step_faults.value() <= 2);
      s.expect_all_complete();
    }
}

TEST_CASE_METHOD(streams, "in the middle of 20 streams a fault on 2 shards changes no token",
                 "[actors][scheduler][fault]") {
  limits.max_sequences = 20;
  limits.max_step_tokens = 64;
  auto where = GENERATE(0u, 1u);
  bool armed = false;
  trouble = [&](uint32_t shard, const troupe::step&, bool early) -> caf::error {
    if (armed && shard == where && !early) {
      armed = false;
      throw std::bad_alloc{};
    }
    return {};
  };
  start(2);
  submit_streams(20, 12);
  while (heard_in_all() < 100)
    step();
  armed = true;
  run();
  CHECK(!armed);
  CHECK(numbers->step_faults.value() == 1);
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "in the middle of 20 streams a dead shard changes no token",
                 "[actors][scheduler][fault]") {
  limits.max_sequences = 20;
  limits.max_step_tokens = 64;
  auto where = GENERATE(0u, 1u);
  auto told = GENERATE(true, false); // by the model, or by the monitor alone
  start(2);
  submit_streams(20, 12);
  while (heard_in_all() < 100)
    step();
  caf::anon_send_exit(shards[where], caf::exit_reason::kill);
  if (told)
    tell(brain, lost_atom_v);
  run();
  auto before = heard_in_all();
  CHECK(before < 20 * 12);
  CHECK(numbers->blocks_used.value() == 0);
  new_epoch(2);
  run();
  CHECK(numbers->replays.value() > 0);
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "a lost device ends its shard and the streams go on with the next",
                 "[actors][scheduler][fault]") {
  bool armed = false;
  trouble = [&](uint32_t shard, const troupe::step&, bool) -> caf::error {
    if (!std::exchange(armed, false) || shard != 1)
      return {};
    return caf::make_error(ec::device_lost, std::string{"fell off the bus"});
  };
  start(2);
  submit_streams(4, 8);
  while (heard_in_all() < 10)
    step();
  trouble = [](uint32_t shard, const troupe::step&, bool) -> caf::error {
    return shard == 1 ? caf::make_error(ec::device_lost, std::string{"fell off the bus"})
                      : caf::error{};
  };
  run();
  CHECK(numbers->step_faults.value() == 0);
  CHECK(load().steps_in_flight == 0);
  trouble = nullptr;
  new_epoch(2);
  run();
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "a poisoned request ends alone", "[actors][scheduler][fault]") {
  auto depth = GENERATE(1u, 2u);
  auto where = GENERATE(0u, 1u);
  if (where >= depth)
    return;
  trouble = [&](uint32_t shard, const troupe::step& s, bool early) -> caf::error {
    if (shard == where && early)
      for (auto t : s.tokens)
        if (t == 5000)
          throw std::out_of_range("token 5000");
    return {};
  };
  start(depth);
  submit_streams(5, 8);
  auto bad = submit({1, 2, 5000, 4}, 8);
  run();
  CHECK(of(bad).fault == caf::make_error(ec::step_fault));
  CHECK(of(bad).tokens.empty());
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "a row's fault ends that row alone", "[actors][scheduler][fault]") {
  start(2);
  submit_streams(4, 8);
  auto bad = submit(words(500, 6), 8);
  row_trouble = [&](const step_row& row) {
    return row.sequence == bad && row.position == 7 ? std::string{"not a number"} : std::string{};
  };
  run();
  CHECK(of(bad).fault == caf::make_error(ec::row_fault));
  CHECK(text_of(of(bad).fault) == "not a number");
  CHECK(of(bad).tokens.size() == 2);
  CHECK(numbers->step_faults.value() == 0);
  CHECK(numbers->row_faults.value() == 1);
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "a fault of the first shard doesn't block the second",
                 "[actors][scheduler][fault]") {
  int calls = 0;
  trouble = [&](uint32_t shard, const troupe::step&, bool early) -> caf::error {
    return shard == 0 && early && ++calls == 3 ? step_fault("first shard") : caf::error{};
  };
  start(2);
  submit_streams(4, 6);
  run();
  size_t skipped = 0;
  for (auto& e : events)
    skipped += e.what == shard_event::kind::skipped && e.shard == 1;
  CHECK(skipped == 1);
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "results and faults of an older epoch don't count",
                 "[actors][scheduler][epoch]") {
  start(1);
  submit_streams(3, 6);
  while (heard_in_all() < 6)
    step();
  while (!awaits<step_result>(brain))
    step();
  // A result of the old shards lies in the mailbox when the new ones come.
  tell(brain, lost_atom_v);
  new_epoch(1);
  step_result stale;
  stale.epoch = epoch_id{1};
  stale.id = step_id{1000};
  tell(brain, stale);
  tell(brain, fault_atom_v, epoch_id{1}, step_id{1001}, step_fault("stale"));
  run();
  CHECK(numbers->step_faults.value() == 0);
  CHECK(numbers->epoch.value() == 2);
  expect_all_complete();
}

TEST_CASE_METHOD(streams, "cancelling and losing shards at any message leaves nothing behind",
                 "[actors][scheduler][fault]") {
  for (size_t when = 1; when < 60; when += 3) {
    INFO("after " << when << " messages");
    streams s;
    s.start(2);
    s.submit_streams(4, 6);
    for (size_t i = 0; i < when; ++i)
      s.step();
    s.tell(s.brain, finish_atom_v, s.ids[0]);
    s.tell(s.brain, lost_atom_v);
    s.new_epoch(2);
    s.run();
    s.expect_said_so_far(s.ids[0]);
    s.ids.erase(s.ids.begin());
    s.expect_all_complete();
  }
}
