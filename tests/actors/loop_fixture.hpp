#pragma once

#include <catch2/catch.hpp>

#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "fake_stage.hpp"
#include "stage.hpp"
#include "troupe/actors/scheduler.hpp"
#include "troupe/actors/shard.hpp"

/// A scheduler and shards on fake stages, under the deterministic coordinator.
namespace troupe::test {

/// What a receiver saw of one sequence.
struct heard {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<size_t> batches; ///< Tokens per message.
  uint32_t cached = 0;
  std::optional<sequence_end> end;
  caf::error fault;
};

using heard_map = std::map<sequence_id, heard>;

inline token_receiver::behavior_type listener(token_receiver::pointer,
                                              std::shared_ptr<heard_map> log) {
  return {
      [log](const token_batch& batch) {
        auto& h = (*log)[batch.sequence];
        h.batches.push_back(batch.tokens.size());
        if (h.tokens.empty())
          h.cached = batch.cached_tokens;
        for (auto& t : batch.tokens) {
          h.tokens.push_back(t.token);
          h.logprobs.push_back(t.logprob);
        }
      },
      [log](done_atom, sequence_id id, sequence_end end) { (*log)[id].end = end; },
      [log](fault_atom, sequence_id id, const caf::error& reason) { (*log)[id].fault = reason; },
  };
}

/// What a shard told its owner.
struct owner_log {
  std::vector<uint32_t> loaded;
  std::map<uint32_t, caf::error> faults;
  std::vector<uint64_t> progress;
};

inline shard_owner::behavior_type owner(shard_owner::pointer, std::shared_ptr<owner_log> log) {
  return {
      [log](loaded_atom, uint32_t index) { log->loaded.push_back(index); },
      [log](fault_atom, uint32_t index, const caf::error& reason) { log->faults[index] = reason; },
      [log](progress_atom, uint32_t, uint64_t done, uint64_t) { log->progress.push_back(done); },
  };
}

/// A stage that works like a device: a launched step is over when the test says so.
class deferred_stage final : public models::stage {
public:
  struct flight {
    step_id id{};
    caf::expected<models::stage_output> output;
    models::step_completion done;
  };
  using flights = std::deque<flight>;

  deferred_stage(fake_stage_options options, std::shared_ptr<flights> launched)
      : inner_(std::move(options)), launched_(std::move(launched)) {}

  caf::expected<models::stage_output> forward(const step& s,
                                              const models::activation& input) override {
    return inner_.forward(s, input);
  }
  caf::expected<models::launched_step> launch(const step& s, const models::activation& input,
                                              models::step_completion done) override {
    launched_->push_back({s.id, inner_.forward(s, input), std::move(done)});
    return models::launched_step{};
  }
  caf::expected<step_result> collect(step_id id) override {
    REQUIRE(!launched_->empty());
    auto first = std::move(launched_->front());
    launched_->pop_front();
    REQUIRE(first.id == id);
    if (!first.output)
      return first.output.error();
    return std::move(first.output->result);
  }
  void skip(const step& s) override { inner_.skip(s); }
  uint64_t weight_bytes() const override { return inner_.weight_bytes(); }
  uint64_t kv_bytes() const override { return inner_.kv_bytes(); }

private:
  fake_stage inner_;
  std::shared_ptr<flights> launched_;
};

class loop_fixture : public stage {
public:
  loop_fixture() {
    limits.max_step_tokens = 16;
    limits.max_sequences = 8;
    limits.max_waiting = 100;
    limits.blocks = 200;
    limits.block_tokens = 4;
  }

  ~loop_fixture() {
    for (auto& s : shards)
      caf::anon_send_exit(s, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(brain, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(ear, caf::exit_reason::user_shutdown);
    run();
  }

  /// Scheduler, receiver and `depth` shards, wired for the first epoch.
  void start(uint32_t depth) {
    metrics = std::make_shared<telemetry::metrics>();
    numbers = metrics->model("fake");
    scheduler_options options;
    options.limits = limits;
    options.metrics = metrics;
    options.model = numbers;
    brain = sys.spawn(scheduler, options);
    ear = sys.spawn(listener, said);
    new_epoch(depth);
    run();
  }

  /// Fresh shards, as a model makes them after one was lost.
  void new_epoch(uint32_t depth) {
    for (auto& s : shards)
      caf::anon_send_exit(s, caf::exit_reason::user_shutdown);
    shards.clear();
    ++epoch;
    auto boss = sys.spawn(owner, std::make_shared<owner_log>());
    for (uint32_t i = 0; i < depth; ++i) {
      shard_options options;
      options.index = i;
      options.owner = boss;
      options.metrics = metrics;
      options.log = [this](const shard_event& e) { events.push_back(e); };
      options.make =
          [this, i,
           depth](const models::load_progress&) -> caf::expected<std::unique_ptr<models::stage>> {
        fake_stage_options o;
        o.layer = i;
        o.layers = depth;
        o.blocks = limits.blocks;
        o.block_tokens = limits.block_tokens;
        o.max_step_tokens = limits.max_step_tokens;
        o.trouble = [this, i](const troupe::step& s, bool early) {
          return trouble ? trouble(i, s, early) : caf::error{};
        };
        o.row_trouble = [this](const step_row& row) {
          return row_trouble ? row_trouble(row) : std::string{};
        };
        if (deferred)
          return std::unique_ptr<models::stage>{std::make_unique<deferred_stage>(o, deferred)};
        return std::unique_ptr<models::stage>{std::make_unique<fake_stage>(o)};
      };
      shards.push_back(sys.spawn(shard, options));
    }
    wire();
  }

  void wire() {
    for (size_t i = 0; i < shards.size(); ++i)
      tell(shards[i], wire_atom_v, epoch_id{epoch},
           i + 1 < shards.size() ? caf::actor_cast<caf::actor>(shards[i + 1]) : caf::actor{},
           caf::actor_cast<caf::actor>(brain));
    tell(brain, wire_atom_v, epoch_id{epoch}, shards);
  }

  static std::vector<int32_t> words(int32_t first, size_t n) {
    std::vector<int32_t> result(n);
    std::iota(result.begin(), result.end(), first);
    return result;
  }

  static new_sequence make(std::vector<int32_t> prompt, uint32_t count) {
    new_sequence s;
    s.prompt = std::move(prompt);
    s.max_new_tokens = count;
    return s;
  }

  /// Submits and lets only the scheduler see it, up to this message; the tick is still to come.
  sequence_id submit(new_sequence s, token_receiver to = {}) {
    auto spec = s;
    caf::scoped_actor asker{sys};
    auto pending = asker->request(brain, caf::infinite, submit_atom_v, std::move(s), to ? to : ear);
    for (bool seen = false; !seen;) {
      seen = awaits<submit_atom, new_sequence, token_receiver>(brain);
      REQUIRE(step(brain));
    }
    sequence_id id{};
    caf::error refused;
    pending.receive([&](sequence_id x) { id = x; }, [&](caf::error& e) { refused = e; });
    INFO(sys.render(refused));
    REQUIRE(!refused);
    specs[id] = spec;
    return id;
  }

  sequence_id submit(std::vector<int32_t> prompt, uint32_t count) {
    return submit(make(std::move(prompt), count));
  }

  heard& of(sequence_id id) { return (*said)[id]; }

  void expect_said_so_far(sequence_id id) {
    auto& h = of(id);
    auto& spec = specs.at(id);
    auto reference =
        fake_generate(spec.prompt, static_cast<uint32_t>(h.tokens.size()),
                      static_cast<uint32_t>(shards.size()), spec.sampling, spec.rope_base);
    CHECK(h.tokens == reference.generated);
    CHECK(h.logprobs == reference.logprobs);
  }

  void expect_complete(sequence_id id) {
    auto& h = of(id);
    INFO(sys.render(h.fault));
    CHECK(!h.fault);
    CHECK(h.tokens.size() == specs.at(id).max_new_tokens);
    CHECK(h.end == sequence_end::length);
    for (auto n : h.batches)
      CHECK(n == 1);
    expect_said_so_far(id);
  }

  scheduler_load load() { return ask<scheduler_load>(brain, status_atom_v).value(); }

  /// The device ends its oldest step.
  void end_step() {
    REQUIRE(!deferred->empty());
    std::exchange(deferred->front().done, nullptr)();
  }

  /// Runs to the end, the device ending a step whenever nothing else is to be done.
  void run_deferred() {
    for (run(); !deferred->empty(); run())
      end_step();
  }

  /// All blocks are back.
  void expect_idle() {
    auto l = load();
    CHECK(l.running == 0);
    CHECK(l.waiting == 0);
    CHECK(l.parked == 0);
    CHECK(l.steps_in_flight == 0);
    CHECK(l.blocks_used == 0);
    CHECK(numbers->blocks_used.value() == 0);
    CHECK(numbers->running.value() == 0);
  }

  scheduling::batching_limits limits;
  std::function<caf::error(uint32_t shard, const troupe::step&, bool early)> trouble;
  std::function<std::string(const step_row&)> row_trouble;
  std::shared_ptr<deferred_stage::flights> deferred; ///< Set: the stage is a deferred one.
  std::shared_ptr<heard_map> said = std::make_shared<heard_map>();
  std::map<sequence_id, new_sequence> specs;
  std::vector<shard_event> events;
  telemetry::metrics_ptr metrics;
  telemetry::model_metrics_ptr numbers;
  scheduler_actor brain;
  token_receiver ear;
  std::vector<shard_actor> shards;
  uint32_t epoch = 0;
};

} // namespace troupe::test
