#include "troupe/actors/replica.hpp"

#include <algorithm>
#include <utility>

#include "troupe/actors/scheduler.hpp"
#include "troupe/actors/spawn_apart.hpp"
#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/guarded.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

replica_report report_of(const replica_state& state) {
  replica_report report;
  report.replica = state.options.id;
  report.phase = state.phase;
  report.scheduler = state.scheduler;
  for (const auto& shard : state.shards) {
    report.bytes_done += shard.bytes_done;
    report.bytes_total += shard.bytes_total;
  }
  return report;
}

void tell_owner(replica_ptr self, replica_report report) {
  self->state.options.metrics->sent(actor_kind::model);
  self->send(self->state.options.owner, std::move(report));
}

void enter(replica_ptr self, replica_phase phase) {
  self->state.phase = phase;
  tell_owner(self, report_of(self->state));
}

// -- children ------------------------------------------------------------------------------------

scheduler_options options_for(const replica_state& state) {
  const auto& plan = *state.plan;
  const auto& load = state.options.load;
  scheduler_options options;
  options.limits.max_step_tokens =
      plan.max_step_tokens > 0 ? plan.max_step_tokens : load.max_step_tokens;
  if (plan.pipeline_chunk > 0)
    options.limits.prefill.pipeline_chunk = plan.pipeline_chunk;
  if (plan.step_overhead_tokens > 0)
    options.limits.prefill.step_overhead_tokens = plan.step_overhead_tokens;
  options.limits.max_sequences = load.max_sequences;
  // Admission is the model's, and those of a lost copy come on top of what it had admitted here.
  options.limits.max_waiting = UINT32_MAX;
  options.limits.blocks = plan.kv_blocks;
  options.limits.block_tokens = plan.kv_block_tokens;
  options.limits.prefix_cache = state.options.prefix_cache;
  options.limits.ahead = plan.schedules_ahead && plan.stages.size() == 1;
  if (auto measured = plan.block_move_ns)
    options.limits.swap = {.host_blocks = plan.kv_host_blocks,
                           .block_ns = [measured] { return static_cast<double>(*measured); }};
  options.limits.steps_in_flight = load.steps_in_flight;
  options.needs_host = plan.needs_host;
  options.metrics = state.options.metrics;
  options.model = state.options.numbers;
  return options;
}

void make_scheduler(replica_ptr self) {
  auto& state = self->state;
  state.scheduler = self->spawn(scheduler, options_for(state));
  self->monitor(state.scheduler);
}

void make_shard(replica_ptr self, uint32_t index) {
  auto& state = self->state;
  auto& place = state.shards[index];
  place = replica_shard{};
  shard_options options;
  options.index = index;
  options.owner = caf::actor_cast<shard_owner>(self);
  options.make = state.plan->stages[index];
  options.stop = place.stop.get_token();
  options.metrics = state.options.metrics;
  options.log = state.options.shard_log;
  place.actor = spawn_apart(self, state.options.detached, shard, std::move(options));
  self->monitor(place.actor);
}

bool all_loaded(const replica_state& state) {
  return std::all_of(state.shards.begin(), state.shards.end(),
                     [](const auto& shard) { return shard.loaded; });
}

/// A new epoch: every shard learns its successor, then the scheduler learns of the shards.
void wire(replica_ptr self) {
  auto& state = self->state;
  state.epoch = epoch_id{static_cast<uint32_t>(state.epoch) + 1};
  auto scheduler = caf::actor_cast<caf::actor>(state.scheduler);
  std::vector<shard_actor> actors;
  for (size_t i = 0; i < state.shards.size(); ++i) {
    auto next = i + 1 < state.shards.size() ? caf::actor_cast<caf::actor>(state.shards[i + 1].actor)
                                            : caf::actor{};
    state.options.metrics->sent(actor_kind::shard);
    self->send(state.shards[i].actor, wire_atom_v, state.epoch, next, scheduler);
    actors.push_back(state.shards[i].actor);
  }
  state.options.metrics->sent(actor_kind::scheduler);
  self->send(state.scheduler, wire_atom_v, state.epoch, std::move(actors));
}

void serve_if_loaded(replica_ptr self) {
  auto& state = self->state;
  if (!state.scheduler || !all_loaded(state))
    return;
  wire(self);
  enter(self, replica_phase::ready);
}

// -- the end -------------------------------------------------------------------------------------

/// Children end; those that have a device give its memory back on their own threads.
void dismiss_children(replica_state& state) {
  auto dismiss = [&](auto& child) {
    if (!child)
      return;
    state.leaving.insert(child.id());
    caf::anon_send_exit(child, caf::exit_reason::user_shutdown);
    child = nullptr;
  };
  dismiss(state.scheduler);
  for (auto& shard : state.shards) {
    shard.stop.request_stop();
    dismiss(shard.actor);
  }
  state.shards.clear();
  // What the plan holds of a device for stages that were never made.
  state.plan = nullptr;
  state.options.plan = nullptr;
}

void quit_after_children(replica_ptr self) {
  auto& state = self->state;
  if (!state.ends || !state.leaving.empty())
    return;
  for (auto& waiter : std::exchange(state.unload_waiters, {}))
    waiter.deliver(done_atom_v);
  self->quit();
}

void leave(replica_ptr self) {
  self->state.ends = true;
  dismiss_children(self->state);
  quit_after_children(self);
}

void fail(replica_ptr self, caf::error why) {
  auto& state = self->state;
  if (state.ends)
    return;
  state.phase = replica_phase::failed;
  auto report = report_of(state);
  report.scheduler = nullptr;
  report.problem = std::move(why);
  tell_owner(self, std::move(report));
  leave(self);
}

caf::result<done_atom> unload(replica_ptr self) {
  auto promise = self->make_response_promise<done_atom>();
  self->state.unload_waiters.push_back(promise);
  leave(self);
  return promise;
}

// -- loading -------------------------------------------------------------------------------------

struct planner_state {
  static constexpr const char* name = "planner";
};

/// Plans on a thread of its own, puts the plan where the replica finds it when told, and ends.
void planner(caf::stateful_actor<planner_state>* self, replica_actor owner, replica_options options,
             std::shared_ptr<models::model_plan> place) {
  auto plan = guarded(ec::bad_model, [&] { return options.make_plan(); });
  options.metrics->sent(actor_kind::replica);
  if (!plan) {
    self->send(owner, fault_atom_v, std::move(plan.error()));
    return;
  }
  for (const auto& line : plan->description)
    telemetry::log(telemetry::log_level::info, {}, options.label + ": " + line);
  *place = std::move(*plan);
  self->send(owner, loaded_atom_v);
}

void plan_ready(replica_ptr self) {
  auto& state = self->state;
  if (state.ends)
    return;
  make_scheduler(self);
  state.shards.resize(state.plan->stages.size());
  for (uint32_t i = 0; i < state.shards.size(); ++i)
    make_shard(self, i);
  enter(self, replica_phase::loading);
}

void begin(replica_ptr self) {
  auto& state = self->state;
  if (state.options.plan) {
    state.plan = state.options.plan;
    return plan_ready(self);
  }
  auto place = std::make_shared<models::model_plan>();
  state.plan = place;
  spawn_apart(self, state.options.detached, planner, caf::actor_cast<replica_actor>(self),
              state.options, place);
}

void shard_loaded(replica_ptr self, uint32_t index) {
  auto& state = self->state;
  if (index >= state.shards.size())
    return;
  state.shards[index].loaded = true;
  serve_if_loaded(self);
}

void shard_failed(replica_ptr self, uint32_t index, const caf::error& err) {
  auto& state = self->state;
  if (state.phase == replica_phase::loading)
    fail(self, err);
  else if (index < state.shards.size())
    state.shards[index].problem = text_of(err);
}

void shard_progress(replica_ptr self, uint32_t index, uint64_t done, uint64_t total) {
  auto& state = self->state;
  if (index >= state.shards.size())
    return;
  state.shards[index].bytes_done = done;
  state.shards[index].bytes_total = total;
  tell_owner(self, report_of(state));
}

// -- losses --------------------------------------------------------------------------------------

std::string cause_of(const caf::error& why) {
  return why.category() == caf::atom("troupe") ? text_of(why) : caf::to_string(why);
}

void lose(replica_ptr self, const std::string& who, std::string cause) {
  self->state.phase = replica_phase::lost;
  auto report = report_of(self->state);
  report.who = who;
  report.problem = caf::make_error(ec::device_lost, std::move(cause));
  tell_owner(self, std::move(report));
}

void shard_died(replica_ptr self, uint32_t index, const caf::error& why) {
  auto& state = self->state;
  auto who = "shard " + std::to_string(index);
  auto& shard = state.shards[index];
  shard.actor = nullptr;
  shard.loaded = false;
  if (state.phase == replica_phase::loading)
    return fail(self,
                caf::make_error(ec::device_lost, who + " died while loading: " + cause_of(why)));
  if (state.scheduler) {
    state.options.metrics->sent(actor_kind::scheduler);
    self->send(state.scheduler, lost_atom_v);
  }
  lose(self, who, shard.problem.empty() ? cause_of(why) : shard.problem);
}

/// The sequences were the scheduler's memory; the shards keep their layers and serve the next one
/// in a new epoch.
void scheduler_died(replica_ptr self, const caf::error& why) {
  self->state.scheduler = nullptr;
  lose(self, "the scheduler", cause_of(why));
}

/// What is dead is made anew.
void load_again(replica_ptr self) {
  auto& state = self->state;
  if (state.ends || state.phase != replica_phase::lost)
    return;
  if (!state.scheduler)
    make_scheduler(self);
  for (uint32_t i = 0; i < state.shards.size(); ++i)
    if (!state.shards[i].actor)
      make_shard(self, i);
  serve_if_loaded(self);
}

void child_died(replica_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  if (state.leaving.erase(down.source.id()) > 0)
    return quit_after_children(self);
  if (state.scheduler && down.source == state.scheduler.address())
    return scheduler_died(self, down.reason);
  for (uint32_t i = 0; i < state.shards.size(); ++i)
    if (state.shards[i].actor && down.source == state.shards[i].actor.address())
      return shard_died(self, i, down.reason);
}

} // namespace

replica_state::~replica_state() {
  dismiss_children(*this);
}

replica_actor::behavior_type replica(replica_ptr self, replica_options options) {
  self->state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { child_died(self, down); });
  begin(self);
  auto handled = [numbers = self->state.options.metrics] { numbers->handled(actor_kind::replica); };
  return {
      [=](load_atom) {
        // It lay with the clock, not in the mailbox, until now.
        self->state.options.metrics->crossed(actor_kind::replica);
        load_again(self);
      },
      [=](unload_atom) {
        handled();
        return unload(self);
      },
      [=](loaded_atom, uint32_t index) {
        handled();
        shard_loaded(self, index);
      },
      [=](fault_atom, uint32_t index, const caf::error& err) {
        handled();
        shard_failed(self, index, err);
      },
      [=](progress_atom, uint32_t index, uint64_t done, uint64_t total) {
        handled();
        shard_progress(self, index, done, total);
      },
      [=](loaded_atom) {
        handled();
        plan_ready(self);
      },
      [=](fault_atom, const caf::error& err) {
        handled();
        fail(self, err);
      },
  };
}

} // namespace troupe
