#include <algorithm>

#include "troupe/actors/model_parts.hpp"
#include "troupe/actors/request_plan.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

/// Every slot and every place in the queue is taken. Choices are counted, not requests: each of
/// them is a sequence that needs a slot.
bool is_full(const model_actor_state& state, uint32_t choices) {
  auto slots = uint64_t{state.spec.load.max_sequences} * count_serving(state);
  return uint64_t{state.choices} + choices > state.spec.queue_limit + slots;
}

caf::error queue_full(const model_actor_state& state) {
  return caf::make_error(ec::queue_full,
                         "model '" + state.spec.name + "' has " + std::to_string(state.choices) +
                             " sequences running and waiting, as many as it takes "
                             "(max_rolling_batch_size + job_queue_size): try again later");
}

/// The copy that has the least to do. Calls of one name stay together. Null: none serves.
model_copy* choose(model_actor_state& state, const std::string& call) {
  model_copy* best = nullptr;
  for (auto& [id, copy] : state.copies) {
    if (!copy.serves())
      continue;
    if (copy.calls && copy.calls->knows(call))
      return &copy;
    // The first of equal ones, so that the others have rest where one is enough.
    if (best == nullptr || copy.choices < best->choices)
      best = &copy;
  }
  return best;
}

void begin_request(model_ptr self, model_guest& guest) {
  guest.begun = true;
  self->state.metrics->sent(actor_kind::request);
  self->send(guest.actor, submit_atom_v);
}

/// Begins those whose turn it is, and comes back when an incomplete batch has waited long enough.
void begin_calls(model_ptr self, model_copy& copy) {
  auto& state = self->state;
  const auto now = self->clock().now();
  for (auto id : copy.calls->start(now))
    if (auto guest = state.guests.find(id); guest != state.guests.end())
      begin_request(self, guest->second);
  if (auto calls = static_cast<int64_t>(copy.calls->begun()); calls > 1) {
    state.numbers->call_batch.set(calls);
    if (state.window)
      state.window->add_batch(calls);
  }
  if (auto due = copy.calls->due())
    self->delayed_send(self, std::max(*due - now, caf::actor_clock::duration_type{0}),
                       timeout_atom_v, static_cast<uint32_t>(model_timer::calls));
}

/// One timer serves all deadlines, because a message per request would keep the ended ones in the
/// clock until their deadlines come.
void arm_deadline(model_ptr self) {
  auto& state = self->state;
  if (state.deadlines.empty())
    return;
  auto next = state.deadlines.begin()->first;
  auto none = caf::actor_clock::time_point{};
  if (state.deadline_timer != none && state.deadline_timer <= next)
    return;
  state.deadline_timer = next;
  auto wait = std::max(next - self->clock().now(), caf::actor_clock::duration_type{0});
  self->delayed_send(self, wait, timeout_atom_v, static_cast<uint32_t>(model_timer::deadline));
}

void forget_deadline(model_actor_state& state, const model_guest& guest, caf::actor_id id) {
  if (guest.deadline == caf::actor_clock::time_point{})
    return;
  auto [first, last] = state.deadlines.equal_range(guest.deadline);
  auto mine = std::find_if(first, last, [=](auto& x) { return x.second == id; });
  if (mine != last)
    state.deadlines.erase(mine);
}

void join(model_copy& copy, model_guest& guest) {
  guest.copy = copy.id;
  ++copy.guests;
  copy.choices += guest.choices;
}

void part(model_copy& copy, const model_guest& guest, caf::actor_id id) {
  --copy.guests;
  copy.choices -= guest.choices;
  if (copy.calls)
    copy.calls->leave(id);
}

/// @returns whether the new copy has to be asked which calls may begin.
bool move_guest(model_ptr self, caf::actor_id id, model_guest& guest, model_copy* from,
                model_copy& to) {
  if (from != nullptr)
    part(*from, guest, id);
  join(to, guest);
  self->send(guest.actor, wire_atom_v, caf::actor_cast<caf::actor>(to.scheduler));
  // One that runs already runs beside the batches of its new copy.
  if (!to.calls || guest.begun)
    return false;
  to.calls->arrive(id, std::to_string(id), self->clock().now());
  return true;
}

model_copy* copy_of(model_actor_state& state, const model_guest& guest) {
  auto it = state.copies.find(guest.copy);
  return it == state.copies.end() ? nullptr : &it->second;
}

} // namespace

caf::result<request_actor> admit(model_ptr self, generation_request& request,
                                 const event_sink& sink) {
  auto& state = self->state;
  auto& ended = state.numbers->ended(telemetry::outcome::refused);
  if (state.phase == model_state::draining) {
    ended.add();
    return caf::make_error(ec::shutting_down,
                           "model '" + state.spec.name + "' is shutting down: ask another server");
  }
  auto* copy = state.phase == model_state::ready ? choose(state, request.id) : nullptr;
  if (copy == nullptr) {
    ended.add();
    return not_ready(state);
  }
  auto choices =
      std::clamp(std::max(request.params.best_of, request.params.search.lanes), 1u, max_choices);
  if (is_full(state, choices)) {
    ended.add();
    return queue_full(state);
  }
  auto deadline_ms = request.deadline_ms;
  auto call = copy->calls ? request.id : std::string{};
  auto actor = self->spawn(request_behavior, state.env, self->address(), copy->scheduler,
                           std::move(request), sink);
  self->monitor(actor);
  model_guest guest;
  guest.actor = actor;
  guest.sink = sink;
  guest.choices = choices;
  if (deadline_ms > 0) {
    guest.deadline = self->clock().now() + std::chrono::milliseconds{deadline_ms};
    state.deadlines.emplace(guest.deadline, actor.id());
  }
  join(*copy, guest);
  auto& known = state.guests.emplace(actor.id(), std::move(guest)).first->second;
  state.choices += choices;
  arm_deadline(self);
  if (copy->calls) {
    copy->calls->arrive(actor.id(), call, self->clock().now());
    begin_calls(self, *copy);
  } else {
    begin_request(self, known);
  }
  if (state.choices > state.spec.load.max_sequences * count_serving(state))
    grow(self);
  return actor;
}

bool guest_left(model_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  auto it = state.guests.find(down.source.id());
  if (it == state.guests.end())
    return false;
  auto guest = std::move(it->second);
  state.guests.erase(it);
  state.choices -= guest.choices;
  forget_deadline(state, guest, down.source.id());
  if (auto* copy = copy_of(state, guest)) {
    part(*copy, guest, down.source.id());
    if (copy->calls)
      begin_calls(self, *copy);
    copy_rests(self, *copy);
  }
  // A request that ends by itself has told its sink how; one that was killed could not.
  if (down.reason) {
    event_batch last;
    last.failure = caf::make_error(ec::internal, "the request was ended from outside (" +
                                                     caf::to_string(down.reason) + ")");
    self->send(guest.sink, std::move(last));
  }
  finish_drain(self);
  return true;
}

void check_deadlines(model_ptr self) {
  auto& state = self->state;
  auto now = self->clock().now();
  if (state.deadline_timer <= now)
    state.deadline_timer = {};
  while (!state.deadlines.empty() && state.deadlines.begin()->first <= now) {
    auto id = state.deadlines.begin()->second;
    state.deadlines.erase(state.deadlines.begin());
    auto guest = state.guests.find(id);
    if (guest == state.guests.end())
      continue;
    guest->second.deadline = {};
    self->send(guest->second.actor, timeout_atom_v, static_cast<uint32_t>(request_timer::deadline));
  }
  arm_deadline(self);
}

void begin_all_calls(model_ptr self) {
  for (auto& [id, copy] : self->state.copies)
    if (copy.calls)
      begin_calls(self, copy);
}

void tell_guests(model_ptr self, const caf::error& err) {
  for (auto& [id, guest] : self->state.guests)
    self->send(guest.actor, drain_atom_v, err);
}

void tell_guests_of(model_ptr self, uint32_t copy, const caf::error& err) {
  for (auto& [id, guest] : self->state.guests)
    if (guest.copy == copy)
      self->send(guest.actor, drain_atom_v, err);
}

bool move_guests(model_ptr self, uint32_t from) {
  auto& state = self->state;
  auto old = state.copies.find(from);
  std::set<uint32_t> joined;
  for (auto& [id, guest] : state.guests) {
    if (guest.copy != from)
      continue;
    auto* next = choose(state, {});
    if (next == nullptr || next->id == from)
      return false;
    if (move_guest(self, id, guest, old == state.copies.end() ? nullptr : &old->second, *next))
      joined.insert(next->id);
  }
  for (auto id : joined)
    begin_calls(self, state.copies.at(id));
  return true;
}

void relieve_others(model_ptr self, model_copy& fresh) {
  auto& state = self->state;
  const auto places = state.spec.load.max_sequences;
  // The youngest stand at the end of their copy's queue. Calls wait for their batches instead.
  std::vector<caf::actor_id> youngest;
  for (const auto& [id, guest] : state.guests)
    if (guest.copy != fresh.id && !fresh.calls)
      youngest.push_back(id);
  std::sort(youngest.rbegin(), youngest.rend());
  for (auto id : youngest) {
    auto& guest = state.guests.at(id);
    auto* copy = copy_of(state, guest);
    if (copy == nullptr || copy->choices <= places || fresh.choices + guest.choices > places)
      continue;
    move_guest(self, id, guest, copy, fresh);
  }
}

caf::result<done_atom> drain(model_ptr self, uint32_t wait_ms) {
  auto& state = self->state;
  auto promise = self->make_response_promise<done_atom>();
  state.drain_waiters.push_back(promise);
  if (state.phase != model_state::failed)
    state.phase = model_state::draining;
  if (wait_ms == 0)
    tell_guests(self, caf::make_error(ec::shutting_down,
                                      "model '" + state.spec.name +
                                          "' is shutting down at once: send the request to "
                                          "another server"));
  else
    for (auto& [id, guest] : state.guests)
      self->send(guest.actor, drain_atom_v);
  if (!state.guests.empty() && wait_ms > 0)
    self->delayed_send(self, std::chrono::milliseconds{wait_ms}, timeout_atom_v,
                       static_cast<uint32_t>(model_timer::drain));
  finish_drain(self);
  return promise;
}

void finish_drain(model_ptr self) {
  if (!self->state.guests.empty())
    return;
  for (auto& waiter : std::exchange(self->state.drain_waiters, {}))
    waiter.deliver(done_atom_v);
}

void drain_timed_out(model_ptr self) {
  tell_guests(self, caf::make_error(ec::shutting_down,
                                    "model '" + self->state.spec.name +
                                        "' is shutting down and its drain timeout has passed: "
                                        "send the request to another server"));
}

} // namespace troupe
