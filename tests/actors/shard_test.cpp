#include "loop_fixture.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

using namespace troupe;
using kind = shard_event::kind;

namespace {

/// What came out of a shard.
struct outbox {
  std::vector<step_id> activations;
  std::vector<step_id> results;
  std::vector<std::pair<step_id, caf::error>> faults;
};

activation_receiver::behavior_type next_shard(activation_receiver::pointer,
                                              std::shared_ptr<outbox> box) {
  return {
      [box](epoch_id, step_id id, const models::activation&) { box->activations.push_back(id); }};
}

result_receiver::behavior_type results(result_receiver::pointer, std::shared_ptr<outbox> box) {
  return {
      [box](const step_result& r) { box->results.push_back(r.id); },
      [](landing_atom, step_id) {},
      [box](fault_atom, epoch_id, step_id id, const caf::error& e) {
        box->faults.emplace_back(id, e);
      },
  };
}

/// One shard alone, whose neighbours the test plays.
class lone_shard : public test::stage {
public:
  void start(uint32_t index, uint32_t layers) {
    boss = sys.spawn(test::owner, told);
    behind = sys.spawn(next_shard, out);
    brain = sys.spawn(results, out);
    shard_options options;
    options.index = index;
    options.owner = boss;
    options.stop = stop.get_token();
    options.log = [this](const shard_event& e) { events.push_back(e); };
    options.make = [this, index, layers](const models::load_progress& progress)
        -> caf::expected<std::unique_ptr<models::stage>> {
      if (load)
        if (auto err = load(progress))
          return err;
      test::fake_stage_options o;
      o.layer = index;
      o.layers = layers;
      o.trouble = [this](const troupe::step& s, bool early) {
        return trouble ? trouble(s, early) : caf::error{};
      };
      return std::unique_ptr<models::stage>{std::make_unique<test::fake_stage>(o)};
    };
    one = sys.spawn(troupe::shard, options);
    last = index + 1 == layers;
  }

  ~lone_shard() {
    for (auto a : {caf::actor_cast<caf::actor>(one), caf::actor_cast<caf::actor>(boss),
                   caf::actor_cast<caf::actor>(behind), caf::actor_cast<caf::actor>(brain)})
      if (a)
        caf::anon_send_exit(a, caf::exit_reason::user_shutdown);
    run();
  }

  void wire(uint32_t epoch) {
    tell(one, wire_atom_v, epoch_id{epoch},
         last ? caf::actor{} : caf::actor_cast<caf::actor>(behind),
         caf::actor_cast<caf::actor>(brain));
  }

  /// Step `id` introduces a sequence of its own with one token.
  static troupe::step a_step(uint32_t epoch, uint64_t id) {
    troupe::step s;
    s.epoch = epoch_id{epoch};
    s.id = step_id{id};
    step_row row;
    row.sequence = sequence_id{id};
    row.token_count = 1;
    row.block_count = 1;
    row.wants.sample = true;
    s.rows = {row};
    s.tokens = {7};
    s.blocks = {block_id{static_cast<uint32_t>(id)}};
    s.starts = {{sequence_id{id}, 1, {7}, {}, 0}};
    return s;
  }

  static models::activation input() {
    return models::activation::from_bytes(models::dtype::int64, 1, 1, std::vector<std::byte>(8));
  }

  std::vector<std::pair<kind, uint64_t>> log() {
    std::vector<std::pair<kind, uint64_t>> result;
    for (auto& e : events)
      result.emplace_back(e.what, static_cast<uint64_t>(e.id));
    return result;
  }

  std::shared_ptr<test::owner_log> told = std::make_shared<test::owner_log>();
  std::shared_ptr<outbox> out = std::make_shared<outbox>();
  std::vector<shard_event> events;
  std::function<caf::error(const models::load_progress&)> load;
  std::function<caf::error(const troupe::step&, bool)> trouble;
  std::stop_source stop;
  shard_owner boss;
  activation_receiver behind;
  result_receiver brain;
  shard_actor one;
  bool last = false;
};

using pairs = std::vector<std::pair<kind, uint64_t>>;

} // namespace

TEST_CASE_METHOD(lone_shard, "a shard loads, reports and is ready", "[actors][shard]") {
  load = [](const models::load_progress& progress) -> caf::error {
    progress(1, 2);
    progress(2, 2);
    return {};
  };
  start(0, 1);
  run();
  CHECK(told->progress == std::vector<uint64_t>{1, 2});
  CHECK(told->loaded == std::vector<uint32_t>{0});
  CHECK(told->faults.empty());
}

TEST_CASE_METHOD(lone_shard, "a shard that can't load says why and ends", "[actors][shard]") {
  int how = GENERATE(0, 1, 2, 3);
  load = [&](const models::load_progress&) -> caf::error {
    if (how == 0)
      return caf::make_error(ec::bad_model, std::string{"truncated"});
    if (how == 1)
      throw std::bad_alloc{};
    if (how == 2)
      throw std::runtime_error("torn");
    throw 42;
  };
  start(3, 4);
  run();
  CHECK(told->loaded.empty());
  REQUIRE(told->faults.count(3) == 1);
  auto expected = how == 1 ? ec::out_of_memory : ec::bad_model;
  CHECK(code_of(told->faults[3]) == expected);
  CHECK(!text_of(told->faults[3]).empty());
}

TEST_CASE_METHOD(lone_shard, "loading stops at the next report once it is told to",
                 "[actors][shard]") {
  int reports = 0;
  load = [&](const models::load_progress& progress) -> caf::error {
    for (;; ++reports) {
      progress(static_cast<uint64_t>(reports), 1000);
      if (reports == 3)
        stop.request_stop();
    }
  };
  start(0, 1);
  run();
  CHECK(reports == 4);
  CHECK(told->faults[0] == caf::make_error(ec::cancelled));
}

TEST_CASE_METHOD(lone_shard, "the first shard runs steps as they come and hands on",
                 "[actors][shard]") {
  start(0, 2);
  wire(1);
  tell(one, a_step(1, 1));
  tell(one, a_step(1, 2));
  run();
  CHECK(out->activations == std::vector{step_id{1}, step_id{2}});
  CHECK(out->results.empty());
}

TEST_CASE_METHOD(lone_shard, "step and activation pair up in any order of arrival",
                 "[actors][shard]") {
  start(1, 2);
  wire(1);
  run();
  // Every interleaving of two steps (in order) and their activations (in any order).
  int order = GENERATE(range(0, 12));
  static const char* const orders[] = {"12ab", "12ba", "1a2b", "1b2a", "1ab2", "1ba2",
                                       "a12b", "b12a", "a1b2", "b1a2", "ab12", "ba12"};
  for (auto c : std::string{orders[order]}) {
    if (c == '1' || c == '2')
      tell(one, a_step(1, static_cast<uint64_t>(c - '0')));
    else
      tell(one, epoch_id{1}, step_id{static_cast<uint64_t>(c - 'a') + 1}, input());
    run();
  }
  CHECK(out->results == std::vector{step_id{1}, step_id{2}});
  CHECK(log() == pairs{{kind::begin, 1}, {kind::end, 1}, {kind::begin, 2}, {kind::end, 2}});
}

TEST_CASE_METHOD(lone_shard, "a void step is skipped in its turn and unblocks those behind",
                 "[actors][shard]") {
  start(1, 2);
  wire(1);
  tell(one, a_step(1, 1));
  tell(one, a_step(1, 2));
  tell(one, a_step(1, 3));
  tell(one, epoch_id{1}, step_id{3}, input());
  run();
  CHECK(events.empty());
  tell(one, void_atom_v, epoch_id{1}, step_id{2});
  run();
  CHECK(events.empty()); // step 1 comes first
  tell(one, epoch_id{1}, step_id{1}, input());
  run();
  CHECK(
      log() ==
      pairs{
          {kind::begin, 1}, {kind::end, 1}, {kind::skipped, 2}, {kind::begin, 3}, {kind::end, 3}});
  // Too late for anything.
  tell(one, epoch_id{1}, step_id{2}, input());
  tell(one, void_atom_v, epoch_id{1}, step_id{3});
  run();
  CHECK(out->results == std::vector{step_id{1}, step_id{3}});
}

TEST_CASE_METHOD(lone_shard, "whatever a stage throws becomes a fault and the shard lives on",
                 "[actors][shard]") {
  int how = GENERATE(0, 1, 2);
  trouble = [&](const troupe::step& s, bool) -> caf::error {
    if (s.id != step_id{1})
      return {};
    if (how == 0)
      throw std::runtime_error("boom");
    if (how == 1)
      throw 42;
    return caf::make_error(ec::out_of_memory, std::string{"scratch"});
  };
  start(0, 1);
  wire(1);
  tell(one, a_step(1, 1));
  tell(one, a_step(1, 2));
  run();
  REQUIRE(out->faults.size() == 1);
  CHECK(out->faults[0].first == step_id{1});
  CHECK(code_of(out->faults[0].second) == (how == 2 ? ec::out_of_memory : ec::step_fault));
  CHECK(out->results == std::vector{step_id{2}});
}

TEST_CASE_METHOD(lone_shard, "a step that contradicts itself or its activation fails alone",
                 "[actors][shard]") {
  auto change = GENERATE(range(0, 7));
  start(1, 2);
  wire(1);
  auto s = a_step(1, 1);
  auto fed = input();
  if (change == 0)
    s.rows[0].token_count = 2;
  if (change == 1)
    s.rows[0].first_token = 1;
  if (change == 2)
    s.rows[0].block_count = 1000;
  if (change == 3)
    s.rows[0].first_block = UINT32_MAX;
  if (change == 4)
    s.rows[0].token_count = 0;
  if (change == 5)
    s.starts[0].prompt_length = 9;
  if (change == 6)
    fed = models::activation::from_bytes(models::dtype::int64, 2, 1, std::vector<std::byte>(16));
  tell(one, s);
  tell(one, epoch_id{1}, step_id{1}, fed);
  tell(one, a_step(1, 2));
  tell(one, epoch_id{1}, step_id{2}, input());
  run();
  REQUIRE(out->faults.size() == 1);
  CHECK(out->faults[0].first == step_id{1});
  CHECK(out->results == std::vector{step_id{2}});
}

TEST_CASE_METHOD(lone_shard, "a lost device ends the shard with that error", "[actors][shard]") {
  trouble = [](const troupe::step&, bool) -> caf::error {
    return caf::make_error(ec::device_lost, std::string{"gone"});
  };
  start(0, 1);
  wire(1);
  run();
  caf::scoped_actor watcher{sys};
  watcher->monitor(one);
  tell(one, a_step(1, 1));
  run();
  caf::error reason;
  watcher->receive([&](caf::down_msg& down) { reason = down.reason; });
  CHECK(reason == caf::make_error(ec::device_lost));
  CHECK(out->results.empty());
}

TEST_CASE_METHOD(lone_shard, "steps wait for their epoch's wiring, older ones are dropped",
                 "[actors][shard][epoch]") {
  start(1, 2);
  tell(one, a_step(1, 1));
  tell(one, epoch_id{1}, step_id{1}, input());
  run();
  CHECK(events.empty());
  wire(1);
  run();
  CHECK(out->results == std::vector{step_id{1}});
  tell(one, a_step(1, 2)); // never gets its activation
  tell(one, a_step(2, 3)); // the new epoch overtakes its wiring
  tell(one, epoch_id{2}, step_id{3}, input());
  run();
  CHECK(out->results.size() == 1);
  wire(2);
  run();
  CHECK(out->results == std::vector{step_id{1}, step_id{3}});
  tell(one, epoch_id{1}, step_id{2}, input());
  tell(one, a_step(1, 4));
  tell(one, void_atom_v, epoch_id{1}, step_id{3});
  wire(1);
  tell(one, a_step(2, 5));
  tell(one, epoch_id{2}, step_id{5}, input());
  run();
  CHECK(out->results == std::vector{step_id{1}, step_id{3}, step_id{5}});
}

// ThreadSanitizer can't see how Debian's CAF, which is built without it, hands messages from thread
// to thread, and takes each for a race.
#ifndef __SANITIZE_THREAD__

namespace {

/// Lets the two shards' threads see what the other one does.
struct meeting {
  std::mutex guard;
  std::condition_variable changed;
  uint64_t begun_on_first = 0;
  size_t met = 0;
  size_t missed = 0;
};

} // namespace

TEST_CASE("on real threads the first shard computes a step while the second has the one before",
          "[actors][shard][pipeline]") {
  caf::actor_system_config cfg;
  cfg.add_message_types<caf::id_block::troupe>();
  cfg.set("scheduler.policy", caf::atom("sharing"));
  caf::actor_system sys{cfg};
  meeting m;
  scheduling::batching_limits limits;
  limits.blocks = 100;
  limits.block_tokens = 4;
  limits.max_sequences = 8;
  limits.max_step_tokens = 16; // many chunks, so that there is a next step from the first one on
  scheduler_options brain_options;
  brain_options.limits = limits;
  auto brain = sys.spawn(scheduler, brain_options);
  caf::scoped_actor self{sys};
  auto log = std::make_shared<test::owner_log>();
  auto boss = sys.spawn(test::owner, log);
  std::vector<shard_actor> shards;
  for (uint32_t i = 0; i < 2; ++i) {
    shard_options options;
    options.index = i;
    options.owner = boss;
    options.make =
        [&m, i,
         limits](const models::load_progress&) -> caf::expected<std::unique_ptr<models::stage>> {
      test::fake_stage_options o;
      o.layer = i;
      o.layers = 2;
      o.blocks = limits.blocks;
      o.block_tokens = limits.block_tokens;
      o.before = [&m, i](const troupe::step& s) {
        std::unique_lock lock{m.guard};
        auto id = static_cast<uint64_t>(s.id);
        if (i == 0) {
          m.begun_on_first = id;
          m.changed.notify_all();
          return;
        }
        // The second shard holds this step until the first has begun the next one. Where only one
        // step is left at the end there is none.
        auto begun = [&] { return m.begun_on_first > id; };
        m.changed.wait_for(lock, std::chrono::milliseconds(id < 10 ? 5000 : 1), begun) ? ++m.met
                                                                                       : ++m.missed;
      };
      return std::unique_ptr<models::stage>{std::make_unique<test::fake_stage>(o)};
    };
    shards.push_back(sys.spawn<caf::detached>(shard, options));
  }
  caf::anon_send(shards[0], wire_atom_v, epoch_id{1}, caf::actor_cast<caf::actor>(shards[1]),
                 caf::actor_cast<caf::actor>(brain));
  caf::anon_send(shards[1], wire_atom_v, epoch_id{1}, caf::actor{},
                 caf::actor_cast<caf::actor>(brain));
  caf::anon_send(brain, wire_atom_v, epoch_id{1}, shards);

  auto done = std::make_shared<std::atomic<int>>(0);
  auto tokens = std::make_shared<test::heard_map>();
  auto ear = sys.spawn([done, tokens](token_receiver::pointer) -> token_receiver::behavior_type {
    return {
        [tokens](const token_batch& b) {
          for (auto& t : b.tokens)
            (*tokens)[b.sequence].tokens.push_back(t.token);
        },
        [done](done_atom, sequence_id, sequence_end) { ++*done; },
        [done](fault_atom, sequence_id, const caf::error&) { ++*done; },
    };
  });
  for (int i = 0; i < 2; ++i) {
    new_sequence s;
    s.prompt.resize(150);
    std::iota(s.prompt.begin(), s.prompt.end(), i * 1000);
    s.max_new_tokens = 12;
    self->request(brain, caf::infinite, submit_atom_v, s, ear)
        .receive([](sequence_id) {}, [](caf::error& e) { FAIL(text_of(e)); });
  }
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (done->load() < 2 && std::chrono::steady_clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  CHECK(done->load() == 2);
  for (auto& s : shards)
    self->send_exit(s, caf::exit_reason::user_shutdown);
  self->send_exit(brain, caf::exit_reason::user_shutdown);
  self->send_exit(ear, caf::exit_reason::user_shutdown);
  self->send_exit(boss, caf::exit_reason::user_shutdown);
  shards.clear();
  self->await_all_other_actors_done();
  CHECK(m.met >= 8);
  REQUIRE(tokens->size() == 2);
  std::vector<int32_t> prompt(150);
  std::iota(prompt.begin(), prompt.end(), 0);
  CHECK(tokens->begin()->second.tokens == test::fake_generate(prompt, 12, 2).generated);
}

#endif
