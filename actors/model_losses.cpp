#include <algorithm>

#include "troupe/actors/model_parts.hpp"
#include "troupe/actors/telemetry/log.hpp"

namespace troupe {

namespace {

using telemetry::log_level;

void copy_ready(model_ptr self, model_copy& copy) {
  auto& state = self->state;
  copy.since_ms = milliseconds_now();
  copy.idle_since = self->clock().now();
  if (state.phase == model_state::loading || state.ready_since == 0) {
    start_missing(self, state.spec.registered.parallel_loading);
    if (all_serve(state))
      set_ready(self);
    return;
  }
  if (state.phase == model_state::failed)
    return;
  if (state.phase == model_state::reloading)
    state.phase = model_state::ready;
  if (all_serve(state))
    state.problem.clear();
  for (auto& [id, other] : state.copies)
    if (other.phase != replica_phase::ready && other.guests > 0 && move_guests(self, id) &&
        other.leaving)
      unload_copy(self, other);
  retire_surplus(self);
  if (copy.serves())
    relieve_others(self, copy);
  await_end_of_rest(self, copy);
}

/// Counts a death. False when it was one too many and the model has given up.
bool survive(model_ptr self, const std::string& who, const std::string& cause) {
  auto& state = self->state;
  if (++state.deaths <= state.spec.retry_threshold)
    return true;
  give_up(self, caf::make_error(ec::device_lost, who + " of model '" + state.spec.name +
                                                     "' died (" + cause + "), and " +
                                                     std::to_string(state.spec.retry_threshold) +
                                                     " deaths are survived (retry_threshold)"));
  return false;
}

void note_loss(model_ptr self) {
  auto& state = self->state;
  if (state.phase == model_state::ready && count_serving(state) == 0)
    state.phase = model_state::reloading;
}

void copy_lost(model_ptr self, model_copy& copy, const replica_report& report) {
  auto& state = self->state;
  if (state.phase == model_state::failed)
    return;
  const auto cause = text_of(report.problem);
  telemetry::log(log_level::error, {},
                 label_of(state, copy.id) + ": " + report.who + " died: " + cause);
  if (state.phase == model_state::loading)
    return give_up(self,
                   caf::make_error(ec::device_lost, report.who + " died while loading: " + cause));
  state.problem = cause;
  if (!move_guests(self, copy.id) && !copy.scheduler)
    tell_guests_of(self, copy.id,
                   caf::make_error(ec::internal, "the scheduler of model '" + state.spec.name +
                                                     "' died (" + cause +
                                                     "); send the request again"));
  note_loss(self);
  if (copy.leaving && copy.guests == 0)
    return unload_copy(self, copy);
  if (!survive(self, report.who, cause))
    return;
  // A scheduler has nothing to load.
  const auto wait = copy.scheduler ? backoff_after(state.deaths, state.factories.first_backoff,
                                                   state.factories.longest_backoff)
                                   : std::chrono::milliseconds{0};
  if (wait.count() == 0)
    self->send(copy.actor, load_atom_v);
  else
    self->delayed_send(copy.actor, wait, load_atom_v);
}

/// It ends by itself once its memory is given back.
void copy_failed(model_ptr self, model_copy& copy, const caf::error& why) {
  auto& state = self->state;
  copy.leaving = copy.unloading = true;
  if (state.phase == model_state::loading)
    return give_up(self, why);
  telemetry::log(log_level::error, {},
                 label_of(state, copy.id) + " could not be loaded: " + text_of(why));
  auto& place = state.places[copy.place];
  place.full = true;
  place.wanted = std::min(place.wanted, count_at(state, copy.place));
  if (place.wanted < place.min)
    state.problem = text_of(why);
  settle_scalings(self, copy.id, why);
}

} // namespace

void take_report(model_ptr self, replica_report& report) {
  auto& state = self->state;
  auto it = state.copies.find(report.replica);
  if (it == state.copies.end())
    return;
  auto& copy = it->second;
  const auto before = std::exchange(copy.phase, report.phase);
  copy.scheduler = std::move(report.scheduler);
  copy.bytes_done = report.bytes_done;
  copy.bytes_total = report.bytes_total;
  switch (report.phase) {
  case replica_phase::planning:
    return;
  case replica_phase::loading:
    if (before == replica_phase::planning)
      settle_scalings(self, copy.id, {});
    return;
  case replica_phase::ready:
    return copy_ready(self, copy);
  case replica_phase::lost:
    // Progress of loading again is told as well.
    if (!report.who.empty())
      copy_lost(self, copy, report);
    return;
  case replica_phase::failed:
    return copy_failed(self, copy, report.problem);
  }
}

bool copy_died(model_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  auto it = std::find_if(state.copies.begin(), state.copies.end(),
                         [&](const auto& x) { return down.source == x.second.actor.address(); });
  if (it == state.copies.end())
    return false;
  const auto id = it->first;
  if (it->second.unloading) {
    state.copies.erase(it);
    settle_scalings(self, id, {}); // It may have been called off before it was planned.
    if (state.phase == model_state::ready || state.phase == model_state::reloading)
      start_missing(self, true);
    return true;
  }
  const auto who = label_of(state, id);
  const auto cause = caf::to_string(down.reason);
  telemetry::log(log_level::error, {}, who + " died: " + cause);
  it->second.phase = replica_phase::lost;
  it->second.leaving = true;
  const auto err =
      caf::make_error(ec::internal, who + " died (" + cause + "); send the request again");
  if (state.phase == model_state::loading) {
    state.copies.erase(it);
    give_up(self, err);
    return true;
  }
  if (!move_guests(self, id))
    tell_guests_of(self, id, err);
  state.copies.erase(id);
  note_loss(self);
  settle_scalings(self, id, err);
  if (state.phase != model_state::failed && survive(self, "a copy", cause))
    self->delayed_send(
        self,
        backoff_after(state.deaths, state.factories.first_backoff, state.factories.longest_backoff),
        timeout_atom_v, static_cast<uint32_t>(model_timer::restart));
  return true;
}

void restart_copies(model_ptr self) {
  if (self->state.phase != model_state::failed)
    start_missing(self, true);
}

} // namespace troupe
