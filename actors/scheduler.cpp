#include "troupe/actors/scheduler.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "troupe/actors/scheduling/departure.hpp"

namespace troupe {

namespace {

using std::chrono::duration;
using telemetry::actor_kind;

constexpr std::chrono::microseconds longest_landing{100};

double seconds(caf::actor_clock::duration_type span) {
  return duration<double>(span).count();
}

void count_handled(scheduler_ptr self) {
  if (auto& metrics = self->state.options.metrics)
    metrics->handled(actor_kind::scheduler);
}

void count_sent(scheduler_ptr self, actor_kind to, uint64_t messages = 1) {
  if (auto& metrics = self->state.options.metrics)
    metrics->sent(to, messages);
}

/// What the policy counts goes to the metrics as it grows.
void report(scheduler_ptr self) {
  auto& state = self->state;
  if (!state.options.model)
    return;
  auto& m = *state.options.model;
  state.levels.show(state.policy->load(), state.steps.in_flight());
  const auto& now = state.policy->counts();
  auto& before = state.reported;
  m.preemptions.add(now.preemptions - before.preemptions);
  m.swaps.add(now.swaps_out - before.swaps_out);
  m.replays.add(now.replays - before.replays);
  m.step_faults.add(now.step_faults - before.step_faults);
  m.row_faults.add(now.row_faults - before.row_faults);
  m.surplus_tokens.add(now.surplus_tokens - before.surplus_tokens);
  before = now;
}

/// A tick is a message to ourselves: what is already in the mailbox comes first, so requests that
/// arrive during a step join the next one.
void schedule_tick(scheduler_ptr self) {
  if (std::exchange(self->state.ticking, true))
    return;
  count_sent(self, actor_kind::scheduler);
  self->send(self, tick_atom_v);
}

// -- receivers -----------------------------------------------------------------------------------

void watch(scheduler_ptr self, const scheduling::admitted& place, const token_receiver& receiver) {
  auto& state = self->state;
  if (state.clients.size() <= place.index)
    state.clients.resize(place.index + 1);
  auto& client = state.clients[place.index];
  client = {place.sequence, receiver, {}, self->clock().now()};
  auto& sequences = state.watched[receiver.address()];
  if (sequences.empty())
    self->monitor(receiver);
  sequences.push_back(place.sequence);
}

void forget(scheduler_ptr self, uint32_t index) {
  auto& state = self->state;
  auto client = std::exchange(state.clients[index], {});
  auto watched = state.watched.find(client.receiver.address());
  if (watched == state.watched.end())
    return;
  std::erase(watched->second, client.sequence);
  if (watched->second.empty()) {
    self->demonitor(watched->first);
    state.watched.erase(watched);
  }
}

void deliver(scheduler_ptr self) {
  auto& state = self->state;
  auto now = self->clock().now();
  uint64_t messages = 0;
  for (auto& event : state.events) {
    auto& client = state.clients[event.index];
    if (event.has_token) {
      if (state.options.model && !event.first)
        state.options.model->inter_token_time.observe(seconds(now - client.last_token));
      client.last_token = now;
      token_batch batch;
      batch.sequence = event.sequence;
      batch.tokens.push_back(std::move(event.row));
      batch.cached_tokens = event.cached_tokens;
      if (event.first)
        batch.waited_us = static_cast<uint32_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(client.waited).count());
      self->send(client.receiver, std::move(batch));
      ++messages;
    }
    for (uint32_t i = 0; i < event.outputs.size(); ++i) {
      token_batch batch;
      batch.sequence = event.sequence;
      batch.tokens = std::move(event.outputs[i].tokens);
      batch.cached_tokens = i == 0 ? event.cached_tokens : 0;
      batch.output = i;
      self->send(client.receiver, std::move(batch));
      ++messages;
    }
    if (event.end) {
      self->send(client.receiver, done_atom_v, event.sequence, *event.end);
      ++messages;
      forget(self, event.index);
    } else if (event.fault) {
      self->send(client.receiver, fault_atom_v, event.sequence, std::move(event.fault));
      ++messages;
      forget(self, event.index);
    }
  }
  state.events.clear();
  count_sent(self, actor_kind::request, messages);
}

caf::result<sequence_id> submit(scheduler_ptr self, new_sequence& s,
                                const token_receiver& receiver) {
  auto& state = self->state;
  if (state.refusal)
    return state.refusal;
  if (!receiver)
    return caf::make_error(ec::invalid_request, std::string{"a sequence needs a receiver"});
  const auto timeout = s.slot_timeout_ms;
  s.needs_host = state.options.needs_host && state.options.needs_host(s.sampling, s.wants);
  auto place = state.policy->admit(std::move(s));
  if (!place)
    return std::move(place.error());
  watch(self, *place, receiver);
  if (timeout > 0)
    state.untimed.emplace_back(place->sequence, timeout);
  schedule_tick(self);
  report(self);
  return place->sequence;
}

void finish(scheduler_ptr self, sequence_id id) {
  if (auto index = self->state.policy->finish(id)) {
    count_sent(self, actor_kind::request);
    self->send(self->state.clients[*index].receiver, done_atom_v, id, sequence_end::finished);
    forget(self, *index);
    schedule_tick(self);
    report(self);
  }
}

void end_with(scheduler_ptr self, sequence_id id, const caf::error& reason) {
  auto& state = self->state;
  auto index = state.policy->finish(id);
  if (!index)
    return;
  count_sent(self, actor_kind::request);
  self->send(state.clients[*index].receiver, fault_atom_v, id, reason);
  forget(self, *index);
}

void expire(scheduler_ptr self, sequence_id id) {
  if (!self->state.policy->never_started(id))
    return;
  end_with(self, id,
           caf::make_error(ec::slot_timeout,
                           std::string{"no batch slot became free within the time allowed"}));
  if (auto& m = self->state.options.model)
    m->slot_timeouts.add();
  report(self);
}

void drain(scheduler_ptr self, const caf::error& reason) {
  auto& state = self->state;
  state.refusal = reason;
  for (const auto& place : state.policy->live())
    end_with(self, place.sequence, reason);
  schedule_tick(self);
  report(self);
}

// -- steps ---------------------------------------------------------------------------------------

/// One value for all shards, copied by none of them that only reads it.
void broadcast(scheduler_ptr self, step&& s) {
  auto& shards = self->state.shards;
  count_sent(self, actor_kind::shard, shards.size());
  if (shards.size() == 1) {
    self->send(shards.front(), std::move(s));
    return;
  }
  auto message = caf::make_message(std::move(s));
  for (const auto& shard : shards)
    caf::actor_cast<caf::strong_actor_ptr>(shard)->enqueue(self->ctrl(), caf::make_message_id(),
                                                           message, self->context());
}

/// Only sequences that the first tick left waiting need a timer.
void arm_slot_timeouts(scheduler_ptr self) {
  for (auto [id, ms] : std::exchange(self->state.untimed, {}))
    if (self->state.policy->never_started(id))
      self->delayed_send(self, std::chrono::milliseconds(ms), timeout_atom_v, id);
}

/// What padding every sequence to the step's longest would have wasted.
double sparsity_of(const step& s) {
  uint64_t longest = 0, all = 0;
  for (const auto& row : s.rows) {
    const auto length = uint64_t{row.position} + row.token_count;
    longest = std::max(longest, length);
    all += length;
  }
  const auto cells = longest * s.rows.size();
  return cells == 0 ? 0 : static_cast<double>(cells - all) / static_cast<double>(cells);
}

/// A sequence that starts for the first time has waited until now.
void note_starts(scheduler_state& state, const step& s, caf::actor_clock::time_point now) {
  for (const auto& start : s.starts)
    for (auto& client : state.clients)
      if (client.sequence == start.sequence && client.submitted != caf::actor_clock::time_point{}) {
        client.waited = now - std::exchange(client.submitted, caf::actor_clock::time_point{});
        if (auto& m = state.options.model)
          m->queue_time.observe(seconds(client.waited));
      }
}

/// Whether the next step stays back, so that whoever arrives while the device is busy can join it.
bool stays_back(scheduler_ptr self, caf::actor_clock::time_point now) {
  auto& state = self->state;
  if (state.started.empty() || !state.policy->awaits_company(state.steps.depth()))
    return false;
  const auto& [running, launched] = state.started.front();
  const auto since = std::max(now - std::max(launched, state.last_landing),
                              caf::actor_clock::duration_type::zero());
  const auto left = scheduling::time_to_departure(
      state.policy->expected_ns(),
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count()));
  if (!left)
    return false;
  if (*left != UINT64_MAX && std::exchange(state.departure_timer, running) != running)
    self->delayed_send(self, std::chrono::nanoseconds{*left}, timeout_atom_v, running);
  return true;
}

void tick(scheduler_ptr self) {
  auto& state = self->state;
  state.ticking = false;
  auto begin = self->clock().now();
  uint32_t splits = 0;
  while (state.steps.has_room() && !stays_back(self, begin)) {
    step s;
    if (!state.policy->next(state.steps.depth(), s))
      break;
    state.steps.launch(s);
    state.policy->launched(s.id);
    state.started.emplace_back(s.id, begin);
    note_starts(state, s, begin);
    if (auto& m = state.options.model) {
      m->step_rows.observe(static_cast<double>(s.rows.size()));
      m->step_tokens.observe(static_cast<double>(s.tokens.size()));
      m->batch_sparsity.observe(sparsity_of(s));
    }
    broadcast(self, std::move(s));
    ++splits;
  }
  arm_slot_timeouts(self);
  if (auto& m = state.options.model; m && splits > 0) {
    m->batch_splits.observe(splits);
    m->tick_time.observe(seconds(self->clock().now() - begin));
  }
  report(self);
}

void record_step(scheduler_ptr self, const step_result& result) {
  auto& state = self->state;
  auto place = std::find_if(state.started.begin(), state.started.end(),
                            [&](const auto& x) { return x.first == result.id; });
  if (state.options.model) {
    auto& m = *state.options.model;
    m.steps.add();
    m.compute_time.observe(static_cast<double>(result.compute_ns) * 1e-9);
    if (result.device_ns > 0)
      m.device_time.observe(static_cast<double>(result.device_ns) * 1e-9);
    if (result.turnaround_ns > 0)
      m.turnaround.observe(static_cast<double>(result.turnaround_ns) * 1e-9);
    if (place != state.started.end())
      m.step_time.observe(seconds(self->clock().now() - place->second));
  }
  if (place != state.started.end())
    state.started.erase(place);
}

void take_result(scheduler_ptr self, step_result& result) {
  auto& state = self->state;
  if (!state.steps.land(result.epoch, result.id))
    return;
  record_step(self, result);
  state.last_landing = self->clock().now();
  state.policy->apply(result, state.events);
  // Where nobody waits to join the next step, its device need not wait for tokens to be handed out.
  if (!state.ticking && self->mailbox().empty())
    tick(self);
  else
    schedule_tick(self);
  deliver(self);
  report(self);
}

/// A sleeping thread takes longer to wake than the shard to collect: it wakes meanwhile, and stays
/// awake until the result is here.
void await_landing(scheduler_ptr self, step_id id) {
  using clock = std::chrono::steady_clock;
  const auto& started = self->state.started;
  if (std::none_of(started.begin(), started.end(), [&](const auto& x) { return x.first == id; }))
    return;
  const auto latest = clock::now() + longest_landing;
  while (self->mailbox().empty() && clock::now() < latest)
    std::this_thread::yield();
}

void take_fault(scheduler_ptr self, epoch_id epoch, step_id id, const caf::error& reason) {
  auto& state = self->state;
  // A shard that lost its device is about to die; its end voids everything at once.
  if (code_of(reason) == ec::device_lost || !state.steps.land(epoch, id))
    return;
  std::erase_if(state.started, [&](const auto& x) { return x.first == id; });
  count_sent(self, actor_kind::shard, state.shards.size());
  for (const auto& shard : state.shards)
    self->send(shard, void_atom_v, epoch, id);
  state.policy->fail(id, reason, state.events);
  deliver(self);
  schedule_tick(self);
  report(self);
}

// -- epochs --------------------------------------------------------------------------------------

/// The KV is gone with any one of the shards. Sequences wait, with their tokens, for the next
/// epoch.
void lose_shards(scheduler_ptr self) {
  auto& state = self->state;
  for (const auto& shard : state.shards)
    self->demonitor(shard.address());
  state.shards.clear();
  state.steps.close();
  state.started.clear();
  state.policy->lose_all();
  report(self);
}

/// Fewer steps in flight than shards make larger ones, since decode rows are spread over them.
void open_pipeline(scheduler_ptr self, epoch_id epoch) {
  auto& state = self->state;
  const auto& limits = state.options.limits;
  const auto wished = limits.steps_in_flight;
  const auto shards = static_cast<uint32_t>(state.shards.size());
  if (limits.ahead)
    state.steps.open(epoch, shards, wished > 0 ? wished - 1 : 1);
  else
    state.steps.open(epoch, wished > 0 && shards > 0 ? wished : shards);
}

void wire(scheduler_ptr self, epoch_id epoch, std::vector<shard_actor>& shards) {
  auto& state = self->state;
  lose_shards(self);
  std::erase(shards, shard_actor{});
  state.shards = std::move(shards);
  for (const auto& shard : state.shards)
    self->monitor(shard);
  open_pipeline(self, epoch);
  state.refusal = caf::none;
  if (state.options.model)
    state.options.model->epoch.set(static_cast<int64_t>(epoch));
  schedule_tick(self);
}

/// A receiver or a shard is gone.
void take_down(scheduler_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  if (auto watched = state.watched.find(down.source); watched != state.watched.end()) {
    auto sequences = watched->second;
    for (auto id : sequences)
      finish(self, id);
    return;
  }
  auto same = [&](const shard_actor& shard) { return shard.address() == down.source; };
  if (std::any_of(state.shards.begin(), state.shards.end(), same))
    lose_shards(self);
}

scheduler_load load_of(scheduler_ptr self) {
  auto load = self->state.policy->load();
  load.steps_in_flight = self->state.steps.in_flight();
  return load;
}

} // namespace

void scheduler_levels::show(const scheduler_load& load, uint32_t steps_in_flight) {
  auto& m = *model;
  waiting.set(m.waiting, load.waiting);
  running.set(m.running, load.running);
  parked.set(m.parked, load.parked);
  blocks_used.set(m.blocks_used, load.blocks_used);
  blocks_cached.set(m.blocks_cached, load.blocks_cached);
  blocks_shared.set(m.blocks_shared, load.blocks_shared);
  blocks_free.set(m.blocks_free,
                  int64_t{load.blocks_total} - load.blocks_used - load.blocks_cached);
  steps.set(m.steps_in_flight, steps_in_flight);
}

scheduler_actor::behavior_type scheduler(scheduler_ptr self, scheduler_options options) {
  static std::atomic<uint64_t> schedulers{0};
  options.limits.last_sequence = schedulers.fetch_add(1) << 40;
  self->state.policy.emplace(options.limits);
  self->state.options = std::move(options);
  self->state.levels.model = self->state.options.model;
  self->set_down_handler([self](caf::down_msg& down) { take_down(self, down); });
  report(self);
  return {
      [self](submit_atom, new_sequence& s, const token_receiver& receiver) {
        count_handled(self);
        return submit(self, s, receiver);
      },
      [self](finish_atom, sequence_id id) {
        count_handled(self);
        finish(self, id);
      },
      [self](park_atom, sequence_id id) {
        count_handled(self);
        self->state.policy->park(id);
        report(self);
      },
      [self](resume_atom, sequence_id id) {
        count_handled(self);
        self->state.policy->resume(id);
        schedule_tick(self);
      },
      [self](step_result& result) {
        count_handled(self);
        take_result(self, result);
      },
      [self](landing_atom, step_id id) {
        count_handled(self);
        await_landing(self, id);
      },
      [self](fault_atom, epoch_id epoch, step_id id, const caf::error& reason) {
        count_handled(self);
        take_fault(self, epoch, id, reason);
      },
      [self](lost_atom) {
        count_handled(self);
        lose_shards(self);
      },
      [self](wire_atom, epoch_id epoch, std::vector<shard_actor>& shards) {
        count_handled(self);
        wire(self, epoch, shards);
      },
      [self](drain_atom, const caf::error& reason) {
        count_handled(self);
        drain(self, reason);
      },
      [self](status_atom) {
        count_handled(self);
        return load_of(self);
      },
      [self](timeout_atom, sequence_id id) {
        // A timer lies with the clock, not in the mailbox, until now.
        count_sent(self, actor_kind::scheduler);
        count_handled(self);
        expire(self, id);
      },
      [self](timeout_atom, step_id) {
        count_sent(self, actor_kind::scheduler);
        count_handled(self);
        schedule_tick(self);
      },
      [self](tick_atom) {
        count_handled(self);
        tick(self);
      },
  };
}

} // namespace troupe
