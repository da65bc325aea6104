#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "stage.hpp"
#include "troupe/actors/scheduler.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

/// Keeps what the scheduler sends; the test says when a step is over.
shard_actor::behavior_type puppet(shard_actor::pointer, std::shared_ptr<std::deque<step>> steps) {
  return {
      [steps](step& s) { steps->push_back(std::move(s)); },
      [](epoch_id, step_id, const models::activation&) {},
      [](void_atom, epoch_id, step_id) {},
      [](wire_atom, epoch_id, const caf::actor&, const caf::actor&) {},
      [](collect_atom, epoch_id, step_id) {},
      [](idle_atom) {},
  };
}

token_receiver::behavior_type counter(token_receiver::pointer, std::shared_ptr<size_t> tokens) {
  return {
      [tokens](const token_batch& batch) { *tokens += batch.tokens.size(); },
      [](done_atom, sequence_id, sequence_end) {},
      [](fault_atom, sequence_id, const caf::error&) {},
  };
}

/// A scheduler before a device that exists on the test's clock alone: so much time a step, so much
/// more a token.
struct simulation : test::stage {
  simulation() {
    scheduler_options options;
    options.limits.max_step_tokens = 4096;
    options.limits.max_sequences = 128;
    options.limits.blocks = 4096;
    options.limits.ahead = true;
    options.limits.prefix_cache = false;
    brain = sys.spawn(scheduler, options);
    device = sys.spawn(puppet, steps);
    ear = sys.spawn(counter, tokens);
    tell(brain, wire_atom_v, epoch_id{1}, std::vector{device});
    run();
  }

  ~simulation() {
    for (auto who : {caf::actor_cast<caf::actor>(brain), caf::actor_cast<caf::actor>(device),
                     caf::actor_cast<caf::actor>(ear)})
      caf::anon_send_exit(who, caf::exit_reason::user_shutdown);
    run();
  }

  /// An 8B model on an H200, about.
  static caf::timespan cost(const troupe::step& s) {
    const auto floor = caf::timespan{4ms};
    const auto work = static_cast<int64_t>(s.tokens.size()) * caf::timespan{22us};
    return std::max(floor, work);
  }

  void submit(size_t prompt, uint32_t count) {
    new_sequence s;
    s.prompt.assign(prompt, static_cast<int32_t>(++submitted));
    s.max_new_tokens = count;
    tell(brain, submit_atom_v, std::move(s), ear);
    run();
  }

  /// Moves the clock up to `when`, in hops of 50 us, the device working meanwhile.
  void pass_until(caf::timespan when) {
    for (; now < when; now += 50us) {
      if (busy_until && now >= *busy_until)
        end_step();
      if (!busy_until && !steps->empty()) {
        busy_until = now + cost(steps->front());
        longest_idle = std::max(longest_idle, now - idle_since);
      }
      for (; !results.empty() && now >= results.front().first; results.pop_front())
        tell(brain, std::move(results.front().second));
      advance(50us);
    }
  }

  void end_step() {
    auto s = std::move(steps->front());
    steps->pop_front();
    step_result result{.epoch = s.epoch, .id = s.id, .rows = {}, .compute_ns = 0};
    result.compute_ns = static_cast<uint64_t>(cost(s).count());
    for (const auto& row : s.rows) {
      auto& r = result.rows.emplace_back();
      r.sequence = row.sequence;
      r.token = row.wants.sample ? 1 : -1;
    }
    rows.push_back(s.rows.size());
    idle_since = now;
    busy_until.reset();
    results.emplace_back(now + to_host, std::move(result));
  }

  /// From a step's end until the scheduler has its result.
  static constexpr caf::timespan to_host = 200us;

  std::shared_ptr<std::deque<troupe::step>> steps = std::make_shared<std::deque<troupe::step>>();
  std::shared_ptr<size_t> tokens = std::make_shared<size_t>(0);
  scheduler_actor brain;
  shard_actor device;
  token_receiver ear;
  size_t submitted = 0;
  caf::timespan now{0};
  std::optional<caf::timespan> busy_until;
  caf::timespan idle_since{0};
  caf::timespan longest_idle{0};
  std::deque<std::pair<caf::timespan, step_result>> results; ///< On their way.
  std::vector<size_t> rows;                                  ///< Of each step that is over.
};

} // namespace

TEST_CASE_METHOD(simulation, "16 prompts that arrive one after the other leave in two steps",
                 "[actors][scheduler][departure]") {
  for (int i = 1; i <= 16; ++i) {
    submit(128, 50);
    pass_until(i * 120us);
  }
  while (*tokens < 16 && now < 1s)
    pass_until(now + 100us);
  REQUIRE(rows.size() >= 2);
  CHECK(rows[0] == 1);
  CHECK(rows[1] == 16); // the first one's decode row, and all who came meanwhile
  const std::chrono::duration<double, std::milli> passed = now;
  // 45 ms of work, and the step with which the first one left.
  CHECK(passed.count() <= 50);
}

TEST_CASE_METHOD(simulation, "prompts that arrive while one is computed share the next step",
                 "[actors][scheduler][departure]") {
  submit(128, 200);
  pass_until(200ms);
  longest_idle = 0ms;
  submit(500, 100);
  pass_until(now + 9ms);
  const auto before = rows.size();
  for (int i = 0; i < 4; ++i) {
    submit(128, 100);
    pass_until(now + 500us);
  }
  pass_until(now + 60ms);
  // Two decode rows and four prompts, and nothing in between but the long prompt.
  REQUIRE(rows.size() > before + 1);
  CHECK(rows[before] == 2);
  CHECK(rows[before + 1] == 6);
  CHECK(longest_idle <= to_host + 50us);
}

TEST_CASE_METHOD(simulation, "a device that decodes is never without work",
                 "[actors][scheduler][departure]") {
  for (int i = 0; i < 8; ++i)
    submit(100, 400);
  pass_until(100ms);
  longest_idle = 0ms;
  pass_until(600ms);
  CHECK(longest_idle == 0ms);
  CHECK(rows.back() == 8);
}
