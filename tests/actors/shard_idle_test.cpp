#include "loop_fixture.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

/// A shard whose stage has `pieces` of work for idle time.
struct idle_shard : test::stage {
  void start(std::chrono::milliseconds after) {
    boss = sys.spawn(test::owner, std::make_shared<test::owner_log>());
    shard_options options;
    options.owner = boss;
    options.idle_after = after;
    options.log = [this](const shard_event& e) { order.push_back(e.what); };
    options.make =
        [this](const models::load_progress&) -> caf::expected<std::unique_ptr<models::stage>> {
      test::fake_stage_options o;
      o.idle_work = [this]() -> caf::expected<bool> {
        ++done;
        if (during)
          during();
        if (problem)
          return problem;
        return done < pieces;
      };
      return std::unique_ptr<models::stage>{std::make_unique<test::fake_stage>(o)};
    };
    one = sys.spawn(shard, options);
    tell(one, wire_atom_v, epoch_id{1}, caf::actor{}, caf::actor{});
    run();
  }

  ~idle_shard() {
    caf::anon_send_exit(one, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(boss, caf::exit_reason::user_shutdown);
    run();
  }

  static troupe::step a_step(uint64_t id) {
    troupe::step s;
    s.epoch = epoch_id{1};
    s.id = step_id{id};
    s.tokens = {1};
    s.blocks = {block_id{static_cast<uint32_t>(id)}};
    s.starts = {{sequence_id{id}, 1, {1}, {}, 0}};
    step_row row;
    row.sequence = sequence_id{id};
    row.token_count = row.block_count = 1;
    s.rows = {row};
    return s;
  }

  int pieces = 3;
  int done = 0;
  caf::error problem;
  std::function<void()> during;
  std::vector<shard_event::kind> order;
  shard_owner boss;
  shard_actor one;
};

} // namespace

TEST_CASE_METHOD(idle_shard, "idle time is used after a while, until nothing is left to do",
                 "[actors][shard][idle]") {
  start(50ms);
  CHECK(done == 0);
  advance(40ms);
  CHECK(done == 0);
  advance(20ms);
  CHECK(done == 3);
  advance(1s);
  CHECK(done == 3);
  CHECK(!has_pending_timeout());
}

TEST_CASE_METHOD(idle_shard, "a step that comes meanwhile waits for one piece only",
                 "[actors][shard][idle]") {
  during = [this] {
    if (done == 1)
      tell(one, a_step(1));
    if (done == 2)
      CHECK(order.size() == 2); // it has begun and ended
  };
  start(0ms);
  advance(1ms);
  CHECK(done == 3);
  CHECK(order == std::vector{shard_event::kind::begin, shard_event::kind::end});
}

TEST_CASE_METHOD(idle_shard, "after a step idle time begins anew", "[actors][shard][idle]") {
  start(1h);
  tell(one, a_step(1));
  run();
  advance(1h); // on the test's clock; the shard's says that the step has just been
  CHECK(done == 0);
  CHECK(has_pending_timeout());
}

TEST_CASE_METHOD(idle_shard, "work that fails is left alone, and the shard goes on",
                 "[actors][shard][idle]") {
  problem = caf::make_error(ec::out_of_memory, std::string{"none left"});
  start(5ms);
  advance(10ms);
  CHECK(done == 1);
  tell(one, a_step(1));
  run();
  CHECK(order == std::vector{shard_event::kind::begin, shard_event::kind::end});
}

TEST_CASE_METHOD(idle_shard, "a device that is lost in idle time ends the shard",
                 "[actors][shard][idle]") {
  problem = caf::make_error(ec::device_lost, std::string{"gone"});
  start(5ms);
  advance(10ms);
  tell(one, a_step(1));
  run();
  CHECK(order.empty());
}
