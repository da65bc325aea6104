#include <algorithm>

#include "troupe/actors/model_parts.hpp"
#include "troupe/actors/telemetry/log.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using telemetry::log_level;

bool is_at(const model_copy& copy, size_t place) {
  return copy.place == place && !copy.leaving;
}

device_groups groups_of(const model_actor_state& state) {
  device_groups groups;
  for (const auto& place : state.places)
    if (!place.devices.empty())
      groups.push_back(place.devices);
  return groups;
}

/// Takes over the numbers of the registration. On the CPU they are for show, and one copy works.
void set_numbers(model_actor_state& state) {
  const auto groups = groups_of(state);
  if (groups.empty())
    return;
  uint32_t wanted = 0;
  for (size_t i = 0; i < state.places.size(); ++i) {
    auto& place = state.places[i];
    const auto numbers = workers_on(state.spec.registered, groups, i);
    place.min = numbers.min;
    place.max = numbers.max;
    place.full = false;
    place.wanted = std::clamp(count_at(state, i), place.min, place.max);
    wanted += place.wanted;
  }
  // A minimum of none still means that requests are served.
  for (auto& place : state.places)
    if (wanted == 0 && place.max > 0)
      wanted = place.wanted = 1;
}

void start_copy(model_ptr self, size_t index) {
  auto& state = self->state;
  const auto& plan = state.parts->plan;
  model_copy copy;
  copy.id = ++state.copies_made;
  copy.place = index;
  copy.since_ms = milliseconds_now();
  if (state.spec.call_batch > 0)
    copy.calls.emplace(state.spec.call_batch, std::chrono::milliseconds{state.spec.call_delay_ms});
  replica_options options;
  options.id = copy.id;
  options.label = label_of(state, copy.id);
  options.owner = caf::actor_cast<replica_owner>(self);
  options.load = state.spec.load;
  options.prefix_cache = state.spec.prefix_cache;
  options.detached = state.factories.detached;
  options.metrics = state.metrics;
  options.numbers = state.numbers;
  options.shard_log = state.factories.shard_log;
  if (!plan.another || (index == 0 && !state.first_plan_used)) {
    options.plan = std::make_shared<const models::model_plan>(plan);
    state.first_plan_used = true;
  } else {
    options.make_plan = [another = plan.another, index] { return another(index); };
  }
  copy.actor = self->spawn(replica, std::move(options));
  self->monitor(copy.actor);
  state.copies.emplace(copy.id, std::move(copy));
}

/// One that was to leave, and has not been told to end, may stay.
bool call_back(model_actor_state& state, size_t place) {
  for (auto& [id, copy] : state.copies)
    if (copy.place == place && copy.leaving && !copy.unloading) {
      copy.leaving = false;
      return true;
    }
  return false;
}

/// Whether a copy there is giving its memory back, which one more will need.
bool is_being_emptied(const model_actor_state& state, size_t place) {
  return std::any_of(state.copies.begin(), state.copies.end(),
                     [=](const auto& x) { return x.second.place == place && x.second.unloading; });
}

// -- leaving -------------------------------------------------------------------------------------

void retire_copy(model_ptr self, model_copy& copy) {
  auto& state = self->state;
  copy.leaving = true;
  telemetry::log(log_level::info, {}, label_of(state, copy.id) + " leaves");
  if (copy.guests == 0)
    return unload_copy(self, copy);
  if (copy.phase != replica_phase::ready && move_guests(self, copy.id))
    return unload_copy(self, copy);
  const auto patience = std::chrono::milliseconds{leaving_copy_ms};
  copy.leave_by = self->clock().now() + patience;
  self->delayed_send(self, patience, timeout_atom_v, static_cast<uint32_t>(model_timer::leaving));
}

/// The one that is missed least: not loaded yet, else with the fewest requests, else the youngest.
model_copy* least_missed(model_actor_state& state, size_t place) {
  model_copy* found = nullptr;
  auto rank = [](const model_copy& x) {
    return std::pair{x.phase == replica_phase::ready, x.choices};
  };
  for (auto& [id, copy] : state.copies)
    if (is_at(copy, place) && (found == nullptr || rank(copy) <= rank(*found)))
      found = &copy;
  return found;
}

/// Whether it may end for having nothing to do.
bool is_spare(const model_actor_state& state, const model_copy& copy) {
  return copy.serves() && copy.guests == 0 && count_serving(state) > 1 &&
         count_at(state, copy.place) > state.places[copy.place].min;
}

} // namespace

uint32_t count_at(const model_actor_state& state, size_t place) {
  return static_cast<uint32_t>(
      std::count_if(state.copies.begin(), state.copies.end(),
                    [=](const auto& x) { return is_at(x.second, place); }));
}

void start_missing(model_ptr self, bool all_at_once) {
  auto& state = self->state;
  for (size_t i = 0; i < state.places.size(); ++i)
    while (count_at(state, i) < state.places[i].wanted) {
      if (call_back(state, i))
        continue;
      if (is_being_emptied(state, i))
        break; // Whose end starts what is missing.
      start_copy(self, i);
      if (!all_at_once)
        return;
    }
}

bool all_serve(const model_actor_state& state) {
  for (size_t i = 0; i < state.places.size(); ++i)
    if (count_at(state, i) < state.places[i].wanted)
      return false;
  return std::all_of(state.copies.begin(), state.copies.end(), [](const auto& x) {
    return x.second.leaving || x.second.phase == replica_phase::ready;
  });
}

void unload_copy(model_ptr self, model_copy& copy) {
  if (std::exchange(copy.unloading, true))
    return;
  self->state.metrics->sent(actor_kind::replica);
  self->request(copy.actor, caf::infinite, unload_atom_v)
      .then([](done_atom) {}, [](const caf::error&) {});
}

void retire_surplus(model_ptr self) {
  auto& state = self->state;
  for (size_t i = 0; i < state.places.size(); ++i)
    while (count_at(state, i) > state.places[i].wanted) {
      auto* copy = least_missed(state, i);
      if (copy->serves() && count_serving(state) == 1)
        break;
      retire_copy(self, *copy);
    }
}

void await_end_of_rest(model_ptr self, model_copy& copy) {
  if (is_spare(self->state, copy))
    self->delayed_send(self, std::chrono::seconds{self->state.spec.registered.max_idle_seconds},
                       timeout_atom_v, static_cast<uint32_t>(model_timer::idle));
}

void settle_scalings(model_ptr self, uint32_t id, const caf::error& problem) {
  auto& state = self->state;
  std::vector<pending_scaling> settled;
  for (auto& scaling : state.scalings) {
    if (scaling.planning.erase(id) > 0 && problem)
      scaling.problem = problem;
    if (scaling.planning.empty())
      settled.push_back(std::move(scaling));
  }
  std::erase_if(state.scalings, [](const auto& x) { return x.planning.empty(); });
  for (auto& scaling : settled) {
    if (!scaling.problem) {
      scaling.promise.deliver(describe(state));
      continue;
    }
    // Somebody may have asked for other numbers meanwhile, and those hold.
    if (scaling.turn == state.scale_turns) {
      state.spec.registered = scaling.before;
      set_numbers(state);
      retire_surplus(self);
    }
    scaling.promise.deliver(std::move(scaling.problem));
  }
}

size_t count_serving(const model_actor_state& state) {
  return static_cast<size_t>(std::count_if(state.copies.begin(), state.copies.end(),
                                           [](const auto& x) { return x.second.serves(); }));
}

void begin_copies(model_ptr self) {
  auto& state = self->state;
  auto& plan = state.parts->plan;
  state.places.clear();
  for (const auto& group : plan.groups)
    state.places.push_back({.devices = group});
  if (state.places.empty())
    state.places.push_back({});
  else
    count_for_gpus(state.spec.registered, plan.groups, plan.groups_chosen);
  set_numbers(state);
  start_missing(self, state.spec.registered.parallel_loading);
  // What the plan holds of devices is the first copy's, or nobody's.
  if (plan.another)
    plan.stages.clear();
  state.first_plan_used = true;
}

void copy_rests(model_ptr self, model_copy& copy) {
  if (copy.guests > 0)
    return;
  copy.idle_since = self->clock().now();
  if (copy.leaving)
    unload_copy(self, copy);
  else
    await_end_of_rest(self, copy);
}

void grow(model_ptr self) {
  auto& state = self->state;
  if (std::any_of(state.copies.begin(), state.copies.end(), [](const auto& x) {
        return !x.second.leaving && x.second.phase != replica_phase::ready;
      }))
    return;
  for (size_t i = 0; i < state.places.size(); ++i) {
    auto& place = state.places[i];
    if (place.devices.empty() || place.full || place.wanted >= place.max)
      continue;
    ++place.wanted;
    return start_missing(self, true);
  }
}

void end_idle_copies(model_ptr self) {
  auto& state = self->state;
  const auto now = self->clock().now();
  const auto rest = std::chrono::seconds{state.spec.registered.max_idle_seconds};
  // The youngest first, because of equal ones the oldest gets the next request.
  for (auto it = state.copies.rbegin(); it != state.copies.rend(); ++it) {
    auto& copy = it->second;
    if (!is_spare(state, copy) || now - copy.idle_since < rest)
      continue;
    retire_copy(self, copy);
    state.places[copy.place].wanted = count_at(state, copy.place);
  }
}

void hurry_leaving_copies(model_ptr self) {
  const auto now = self->clock().now();
  for (auto& [id, copy] : self->state.copies)
    if (copy.leaving && !copy.unloading && copy.leave_by <= now && move_guests(self, id))
      unload_copy(self, copy);
}

caf::result<model_status> scale_copies(model_ptr self, registration& as) {
  auto& state = self->state;
  if (state.phase != model_state::ready && state.phase != model_state::reloading)
    return not_ready(state);
  auto before = std::exchange(state.spec.registered, std::move(as));
  ++state.scale_turns;
  if (groups_of(state).empty()) {
    staff_cpu(state);
    return describe(state);
  }
  set_numbers(state);
  const auto known = state.copies_made;
  start_missing(self, true);
  retire_surplus(self);
  if (state.copies_made == known)
    return describe(state);
  pending_scaling scaling;
  scaling.promise = self->make_response_promise<model_status>();
  scaling.before = std::move(before);
  scaling.turn = state.scale_turns;
  for (auto id = known + 1; id <= state.copies_made; ++id)
    scaling.planning.insert(id);
  auto promise = scaling.promise;
  state.scalings.push_back(std::move(scaling));
  return promise;
}

} // namespace troupe
