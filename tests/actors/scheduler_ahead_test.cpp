#include "loop_fixture.hpp"

using namespace troupe;
using test::loop_fixture;

namespace {

/// One shard on a device that works by itself, steps scheduled ahead.
struct device_fixture : loop_fixture {
  device_fixture() {
    limits.ahead = true;
    deferred = std::make_shared<test::deferred_stage::flights>();
  }
};

} // namespace

TEST_CASE_METHOD(device_fixture, "the device has its next step before the host has the last tokens",
                 "[actors][scheduler][ahead]") {
  start(1);
  auto a = submit(words(1, 5), 6);
  run();
  CHECK(deferred->size() == 1); // behind a prompt, company is awaited
  CHECK(of(a).tokens.empty());
  for (size_t known = 1; known <= 3; ++known) {
    end_step();
    run();
    CHECK(of(a).tokens.size() == known);
    CHECK(deferred->size() == 2);
  }
  run_deferred();
  expect_complete(a);
  expect_idle();
}

TEST_CASE_METHOD(device_fixture, "a result starts the next step before its tokens are handed out",
                 "[actors][scheduler][ahead]") {
  start(1);
  auto a = submit(words(1, 5), 6);
  run();
  end_step();
  run();
  end_step();
  CHECK(awaits<landing_atom, step_id>(brain));
  step(shards[0]);      // collects and answers
  REQUIRE(step(brain)); // the result is here already
  REQUIRE(step(brain));
  CHECK(awaits<troupe::step>(shards[0]));
  CHECK(awaits<token_batch>(ear));
  CHECK_FALSE(step(brain)); // it needed no message to itself
  run_deferred();
  expect_complete(a);
}

TEST_CASE_METHOD(device_fixture, "whoever waits in the mailbox joins before the next step starts",
                 "[actors][scheduler][ahead]") {
  start(1);
  auto a = submit(words(1, 5), 6);
  run();
  end_step();
  run();
  end_step();
  step(shards[0]);
  REQUIRE(step(brain)); // hears that a result lands
  auto before = numbers->step_rows.sum();
  tell(brain, finish_atom_v, a);
  REQUIRE(step(brain)); // the result, with the cancellation behind it
  CHECK_FALSE(awaits<troupe::step>(shards[0]));
  run_deferred();
  CHECK(of(a).end == sequence_end::finished);
  CHECK(numbers->step_rows.sum() == before);
  expect_idle();
}

TEST_CASE_METHOD(device_fixture, "a result that was announced and does not come holds nobody up",
                 "[actors][scheduler][ahead]") {
  start(1);
  auto a = submit(words(1, 5), 3);
  run();
  end_step();
  REQUIRE(step(brain)); // waits in vain: the shard has not collected yet
  CHECK_FALSE(awaits<troupe::step>(shards[0]));
  tell(brain, landing_atom_v, step_id{4711});
  REQUIRE(step(brain)); // nothing of that name runs
  auto b = submit(words(2, 5), 3);
  run_deferred();
  expect_complete(a);
  expect_complete(b);
  expect_idle();
}

TEST_CASE_METHOD(device_fixture, "a step that is over out of the blue counts once",
                 "[actors][shard][ahead]") {
  start(1);
  auto a = submit(words(1, 5), 3);
  run();
  auto done = deferred->front().done;
  run_deferred();
  done();
  run();
  expect_complete(a);
}

TEST_CASE_METHOD(device_fixture, "many sequences end and one is cancelled ahead of the host",
                 "[actors][scheduler][ahead]") {
  start(1);
  std::vector<sequence_id> ids;
  for (int i = 0; i < 7; ++i)
    ids.push_back(submit(words(i * 40, 1 + static_cast<size_t>(i)), 9));
  run();
  end_step();
  run();
  tell(brain, finish_atom_v, ids[3]);
  run_deferred();
  for (size_t i = 0; i < ids.size(); ++i)
    if (i != 3)
      expect_complete(ids[i]);
  CHECK(of(ids[3]).end == sequence_end::finished);
  expect_idle();
}

TEST_CASE_METHOD(device_fixture, "a fault that shows when the step is collected is a step fault",
                 "[actors][scheduler][ahead]") {
  int faults = 2;
  trouble = [&](uint32_t, const troupe::step& s, bool early) -> caf::error {
    if (early && s.id >= step_id{3} && faults > 0) {
      --faults;
      return caf::make_error(ec::step_fault, std::string{"chance"});
    }
    return {};
  };
  start(1);
  auto a = submit(words(1, 5), 8);
  auto b = submit(words(60, 3), 8);
  run_deferred();
  CHECK(faults == 0);
  expect_complete(a);
  expect_complete(b);
  expect_idle();
}

TEST_CASE_METHOD(device_fixture, "a device lost with steps in flight is replayed by the next one",
                 "[actors][scheduler][ahead]") {
  start(1);
  auto a = submit(words(1, 5), 8);
  auto b = submit(words(60, 3), 8);
  run();
  end_step();
  run();
  end_step();
  run();
  REQUIRE(deferred->size() == 2);
  // The old device's steps never end; what it would say comes too late.
  auto late = deferred->front().done;
  deferred->clear();
  caf::anon_send_exit(shards[0], caf::exit_reason::user_shutdown);
  run();
  new_epoch(1);
  late();
  run_deferred();
  expect_complete(a);
  expect_complete(b);
  expect_idle();
}
