#include "troupe/actors/shard.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "troupe/config/guarded.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using clock = std::chrono::steady_clock;

/// Leaves a stage factory from within its report of progress.
struct loading_stopped : std::exception {
  const char* what() const noexcept override { return "loading was stopped"; }
};

void count_handled(shard_ptr self) {
  if (auto& metrics = self->state.options.metrics)
    metrics->handled(actor_kind::shard);
}

void count_sent(shard_ptr self, actor_kind to) {
  if (auto& metrics = self->state.options.metrics)
    metrics->sent(to);
}

void note(shard_ptr self, shard_event::kind what, epoch_id epoch, step_id id) {
  const auto& options = self->state.options;
  if (options.log)
    options.log({what, options.index, epoch, id});
}

/// As `guarded`, for foreign exceptions too: nothing that a stage throws ends the actor.
template <class F>
auto run_guarded(F&& f) -> decltype(guarded(ec::step_fault, f)) {
  try {
    return guarded(ec::step_fault, f);
  } catch (...) {
    return caf::make_error(ec::step_fault, std::string{"the stage threw an unknown exception"});
  }
}

// -- idle time -----------------------------------------------------------------------------------

void look_for_idle_time(shard_ptr self, std::chrono::milliseconds after) {
  if (self->state.stage && self->state.stage->has_idle_work())
    self->delayed_send(self, after, idle_atom_v);
}

/// One piece at a time, so that a step that comes waits for no more than that.
void use_idle_time(shard_ptr self) {
  auto& state = self->state;
  const auto rest = state.options.idle_after;
  if (!state.steps.empty() || !state.running.empty() || clock::now() - state.last_step < rest)
    return look_for_idle_time(self, rest);
  auto more = run_guarded([&] { return state.stage->idle_work(); });
  if (more && *more)
    self->send(self, idle_atom_v);
  // Steps do without what was to be prepared; should they fail as well, they say so themselves.
  else if (!more && code_of(more.error()) == ec::device_lost)
    self->quit(more.error());
}

// -- loading -------------------------------------------------------------------------------------

caf::expected<std::unique_ptr<models::stage>> load_stage(shard_ptr self) {
  auto& options = self->state.options;
  auto report = [&](uint64_t done, uint64_t all) {
    if (options.stop.stop_requested())
      throw loading_stopped{};
    count_sent(self, actor_kind::replica);
    self->send(options.owner, progress_atom_v, options.index, done, all);
  };
  try {
    if (options.stop.stop_requested())
      throw loading_stopped{};
    auto stage = options.make(report);
    if (stage && !*stage)
      return caf::make_error(ec::internal, std::string{"the stage factory made nothing"});
    return stage;
  } catch (const loading_stopped& stopped) {
    return caf::make_error(ec::cancelled, std::string{stopped.what()});
  } catch (const std::bad_alloc&) {
    return caf::make_error(ec::out_of_memory,
                           std::string{"not enough memory for the layers of a shard: use more "
                                       "shards, a smaller dtype or a smaller KV cache"});
  } catch (const std::exception& x) {
    return caf::make_error(ec::bad_model, std::string{x.what()});
  } catch (...) {
    return caf::make_error(ec::bad_model, std::string{"loading threw an unknown exception"});
  }
}

void load(shard_ptr self) {
  auto& options = self->state.options;
  auto stage = load_stage(self);
  count_sent(self, actor_kind::replica);
  if (stage) {
    self->state.stage = std::move(*stage);
    self->send(options.owner, loaded_atom_v, options.index);
    look_for_idle_time(self, options.idle_after);
  } else {
    self->send(options.owner, fault_atom_v, options.index, stage.error());
    self->quit(stage.error());
  }
  // Whatever the factory holds (mapped files) is not needed again, and the owner holds us.
  options.make = nullptr;
  options.owner = shard_owner{};
}

// -- running -------------------------------------------------------------------------------------

/// A step may have come over a wire: nothing in it may lead a stage out of the step's own arrays.
bool is_well_formed(const step& s) {
  size_t tokens = 0;
  size_t blocks = 0;
  for (const auto& row : s.rows) {
    if (row.token_count == 0 || row.first_token != tokens || row.first_block != blocks)
      return false;
    tokens += row.token_count;
    blocks += row.block_count;
  }
  auto sound = [](const sequence_start& x) { return x.prompt_length <= x.history.size(); };
  return tokens == s.tokens.size() && blocks == s.blocks.size() &&
         std::all_of(s.starts.begin(), s.starts.end(), sound);
}

/// Tells the shard, from whatever thread the device uses, that a step is over, and the scheduler
/// that its result lands soon. Holds no reference: the shard owns the stage that keeps this.
models::step_completion notify(shard_ptr self, epoch_id epoch, step_id id) {
  return [where = self->address(), answered = self->state.scheduler.address(),
          metrics = self->state.options.metrics, epoch, id] {
    if (auto shard = caf::actor_cast<shard_actor>(where)) {
      if (metrics)
        metrics->sent(actor_kind::shard);
      caf::anon_send(shard, collect_atom_v, epoch, id);
    }
    if (auto scheduler = caf::actor_cast<result_receiver>(answered)) {
      if (metrics)
        metrics->sent(actor_kind::scheduler);
      caf::anon_send(scheduler, landing_atom_v, id);
    }
  };
}

/// What the stage makes of a step, or what is wrong with the step. How many rows of an activation
/// to expect only the stage knows: it leaves out rows that it refuses.
caf::expected<models::launched_step> launch(shard_ptr self, const step& s,
                                            const models::activation& input) {
  if (!is_well_formed(s))
    return caf::make_error(ec::step_fault, std::string{"the step contradicts itself"});
  return run_guarded(
      [&] { return self->state.stage->launch(s, input, notify(self, s.epoch, s.id)); });
}

/// Ids only grow within an epoch, so everything up to the last step that left the line is over. A
/// new epoch may count anew, because its scheduler may be a new one.
bool is_over(const shard_state& state, epoch_id epoch, step_id id) {
  return epoch < state.epoch || (epoch == state.epoch && state.ran_any && id <= state.finished);
}

void answer(shard_ptr self, epoch_id epoch, step_id id, step_result&& result,
            clock::duration took) {
  result.epoch = epoch;
  result.id = id;
  result.compute_ns =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
  count_sent(self, actor_kind::scheduler);
  self->send(self->state.scheduler, std::move(result));
}

void report_fault(shard_ptr self, epoch_id epoch, step_id id, const caf::error& reason) {
  note(self, shard_event::kind::fault, epoch, id);
  if (code_of(reason) == ec::device_lost)
    self->quit(reason);
  count_sent(self, actor_kind::scheduler);
  self->send(self->state.scheduler, fault_atom_v, epoch, id, reason);
}

void run_step(shard_ptr self, const step& s, const models::activation& input) {
  auto& state = self->state;
  note(self, shard_event::kind::begin, s.epoch, s.id);
  const auto begin = clock::now();
  auto output = launch(self, s, input);
  const auto turning = std::exchange(state.turning, std::nullopt);
  if (!output)
    return report_fault(self, s.epoch, s.id, output.error());
  if (state.next) {
    note(self, shard_event::kind::end, s.epoch, s.id);
    count_sent(self, actor_kind::shard);
    self->send(state.next, s.epoch, s.id, std::move(output->passed));
  } else if (output->result) {
    note(self, shard_event::kind::end, s.epoch, s.id);
    answer(self, s.epoch, s.id, std::move(*output->result), clock::now() - begin);
  } else {
    const auto turnaround = turning ? clock::now() - *turning : clock::duration{0};
    state.running.push_back({s.epoch, s.id, begin, static_cast<uint64_t>(turnaround.count())});
  }
}

/// The device is done with a step that was launched. Steps end in the order of their launches.
void collect(shard_ptr self, epoch_id epoch, step_id id) {
  auto& state = self->state;
  auto place = std::find_if(state.running.begin(), state.running.end(),
                            [&](const auto& x) { return x.epoch == epoch && x.id == id; });
  if (place == state.running.end())
    return;
  const auto found = clock::now();
  const auto begin = std::max(place->begin, state.last_end);
  const auto turnaround = place->turnaround_ns;
  state.running.erase(place);
  auto result = run_guarded([&] { return state.stage->collect(id); });
  state.last_step = state.last_end = clock::now();
  if (!result)
    return report_fault(self, epoch, id, result.error());
  note(self, shard_event::kind::end, epoch, id);
  result->turnaround_ns = turnaround;
  state.turning = found;
  answer(self, epoch, id, std::move(*result), state.last_end - begin);
}

void skip_step(shard_ptr self, const step& s) {
  auto skipped = run_guarded([&] {
    self->state.stage->skip(s);
    return true;
  });
  note(self, shard_event::kind::skipped, s.epoch, s.id);
  // Its bookkeeping may be incomplete now, and nobody would tell the stage again.
  if (!skipped)
    self->quit(caf::make_error(ec::device_lost, text_of(skipped.error())));
}

/// Runs the steps whose turn it is, as far as their activations are here.
void advance(shard_ptr self) {
  auto& state = self->state;
  while (state.wired && state.stage && !state.steps.empty()) {
    auto& head = state.steps.front();
    if (head.value.epoch != state.epoch)
      return; // its wiring is still on its way
    auto input = state.arrived.find({head.value.epoch, head.value.id});
    if (!head.voided && state.options.index > 0 && input == state.arrived.end())
      return;
    auto turn = std::move(head);
    state.steps.pop_front();
    models::activation fed;
    if (input != state.arrived.end()) {
      fed = std::move(input->second);
      state.arrived.erase(input);
    }
    state.finished = turn.value.id;
    state.ran_any = true;
    if (turn.voided)
      skip_step(self, turn.value);
    else
      run_step(self, turn.value, fed);
  }
}

void take_step(shard_ptr self, step& s) {
  auto& state = self->state;
  if (is_over(state, s.epoch, s.id))
    return;
  state.last_step = clock::now();
  state.steps.push_back({std::move(s), false});
  advance(self);
}

void take_activation(shard_ptr self, epoch_id epoch, step_id id, models::activation& input) {
  auto& state = self->state;
  if (is_over(state, epoch, id))
    return;
  state.arrived.insert_or_assign({epoch, id}, std::move(input));
  advance(self);
}

void take_void(shard_ptr self, epoch_id epoch, step_id id) {
  auto& state = self->state;
  for (auto& queued : state.steps)
    if (queued.value.epoch == epoch && queued.value.id == id)
      queued.voided = true;
  advance(self);
}

void wire(shard_ptr self, epoch_id epoch, const caf::actor& next, const caf::actor& scheduler) {
  auto& state = self->state;
  if (state.wired && epoch < state.epoch)
    return;
  if (epoch != state.epoch)
    state.ran_any = false;
  state.wired = true;
  state.epoch = epoch;
  state.next = caf::actor_cast<activation_receiver>(next);
  state.scheduler = caf::actor_cast<result_receiver>(scheduler);
  std::erase_if(state.steps, [&](const auto& queued) { return queued.value.epoch < epoch; });
  std::erase_if(state.arrived, [&](const auto& x) { return x.first.first < epoch; });
  advance(self);
}

} // namespace

shard_actor::behavior_type shard(shard_ptr self, shard_options options) {
  self->state.options = std::move(options);
  load(self);
  return {
      [self](step& s) {
        count_handled(self);
        take_step(self, s);
      },
      [self](epoch_id epoch, step_id id, models::activation& input) {
        count_handled(self);
        take_activation(self, epoch, id, input);
      },
      [self](void_atom, epoch_id epoch, step_id id) {
        count_handled(self);
        take_void(self, epoch, id);
      },
      [self](wire_atom, epoch_id epoch, const caf::actor& next, const caf::actor& scheduler) {
        count_handled(self);
        wire(self, epoch, next, scheduler);
      },
      [self](collect_atom, epoch_id epoch, step_id id) {
        count_handled(self);
        collect(self, epoch, id);
      },
      [self](idle_atom) {
        // Nobody counts it: it lies with the clock most of the time.
        use_idle_time(self);
      },
  };
}

} // namespace troupe
