#include "troupe/actors/model.hpp"

#include <algorithm>
#include <ctime>

#include "troupe/actors/model_parts.hpp"
#include "troupe/actors/telemetry/log.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using telemetry::log_level;

caf::result<model_status> await_loaded(model_ptr self) {
  auto& state = self->state;
  if (state.phase == model_state::failed)
    return not_ready(state);
  auto promise = self->make_response_promise<model_status>();
  if (state.phase == model_state::loading)
    state.load_waiters.push_back(promise);
  else
    promise.deliver(describe(state));
  return promise;
}

void loading_timed_out(model_ptr self) {
  auto& state = self->state;
  if (state.phase == model_state::loading)
    give_up(self,
            caf::make_error(ec::model_not_ready, "loading took longer than " +
                                                     std::to_string(state.spec.loading_timeout_ms) +
                                                     " ms (model_loading_timeout)"));
}

void timed_out(model_ptr self, model_timer which) {
  switch (which) {
  case model_timer::loading:
    return loading_timed_out(self);
  case model_timer::restart:
    return restart_copies(self);
  case model_timer::drain:
    return drain_timed_out(self);
  case model_timer::calls:
    return begin_all_calls(self);
  case model_timer::deadline:
    return check_deadlines(self);
  case model_timer::idle:
    return end_idle_copies(self);
  case model_timer::leaving:
    return hurry_leaving_copies(self);
  }
}

void give_reservation_back(model_ptr self) {
  auto& state = self->state;
  if (!state.supervisor)
    return;
  state.metrics->sent(actor_kind::supervisor);
  self->request(state.supervisor, caf::infinite, reserve_atom_v,
                label_of(state.spec.name, state.spec.registered.version), uint64_t{0}, uint64_t{0})
      .then([](done_atom) {}, [](const caf::error&) {});
}

/// A failed model's healthy copies have finished what they had.
void bury_if_finished(model_ptr self) {
  auto& state = self->state;
  if (state.phase != model_state::failed || !state.guests.empty() || !state.unload_waiters.empty())
    return;
  dismiss_children(self);
  give_reservation_back(self);
}

} // namespace

caf::error not_ready(const model_actor_state& state) {
  auto text =
      "model '" + state.spec.name + "' is not ready: " + std::string{to_string_view(state.phase)};
  if (!state.problem.empty())
    text += " (" + state.problem + ")";
  return caf::make_error(ec::model_not_ready, std::move(text));
}

std::string label_of(const model_actor_state& state, uint32_t copy) {
  auto text = "model '" + state.spec.name + "'";
  if (state.places.size() > 1 || state.copies.size() > 1)
    text += ", copy " + std::to_string(copy);
  return text;
}

void set_ready(model_ptr self) {
  auto& state = self->state;
  if (state.phase != model_state::draining)
    state.phase = model_state::ready;
  state.problem.clear();
  if (state.ready_since == 0)
    state.ready_since = std::time(nullptr);
  staff_cpu(state);
  for (auto& waiter : std::exchange(state.load_waiters, {}))
    waiter.deliver(describe(state));
}

void give_up(model_ptr self, caf::error err) {
  auto& state = self->state;
  telemetry::log(log_level::error, {}, "model '" + state.spec.name + "' failed: " + text_of(err));
  state.phase = model_state::failed;
  state.problem = text_of(err);
  for (auto& [id, copy] : state.copies)
    if (copy.phase != replica_phase::ready && !move_guests(self, id))
      tell_guests_of(self, id, err);
  for (auto& waiter : std::exchange(state.load_waiters, {}))
    waiter.deliver(err);
  for (auto& scaling : std::exchange(state.scalings, {}))
    scaling.promise.deliver(err);
  bury_if_finished(self);
}

model_actor_state::~model_actor_state() {
  for (auto& [id, copy] : copies)
    caf::anon_send_exit(copy.actor, caf::exit_reason::user_shutdown);
  for (auto& member : tokenizers)
    if (member.actor)
      caf::anon_send_exit(member.actor, caf::exit_reason::user_shutdown);
}

model_actor::behavior_type model_behavior(model_ptr self, model_spec spec,
                                          model_factories factories, supervisor_actor supervisor,
                                          telemetry::metrics_ptr metrics) {
  auto& state = self->state;
  state.spec = std::move(spec);
  state.factories = std::move(factories);
  state.supervisor = std::move(supervisor);
  state.metrics = std::move(metrics);
  state.numbers = state.metrics->model(label_of(state.spec.name, state.spec.registered.version));
  if (auto every = state.spec.registered.sum_up_every; every > 0)
    state.window = std::make_shared<telemetry::request_window>(state.numbers, every);
  self->set_down_handler([self](caf::down_msg& down) {
    if (guest_left(self, down))
      bury_if_finished(self);
    else if (!child_left(self, down) && !copy_died(self, down))
      tokenizer_died(self, down);
  });
  begin_loading(self);
  auto handled = [numbers = state.metrics] { numbers->handled(actor_kind::model); };
  return {
      [=](submit_atom, generation_request& request, const event_sink& sink) {
        handled();
        return admit(self, request, sink);
      },
      [=](tokenize_request& request) {
        handled();
        return tokenize(self, request);
      },
      [=](detokenize_request& request) {
        handled();
        return detokenize(self, request);
      },
      [=](status_atom) {
        handled();
        return report(self);
      },
      [=](load_atom) {
        handled();
        return await_loaded(self);
      },
      [=](drain_atom, uint32_t wait_ms) {
        handled();
        return drain(self, wait_ms);
      },
      [=](unload_atom) {
        handled();
        return unload_model(self);
      },
      [=](scale_atom, registration& as) {
        handled();
        return scale_copies(self, as);
      },
      [=](replica_report& report) {
        handled();
        take_report(self, report);
      },
      [=](loaded_atom) { parts_ready(self); },
      [=](fault_atom, const caf::error& err) { parts_failed(self, err); },
      [=](timeout_atom, uint32_t which) { timed_out(self, static_cast<model_timer>(which)); },
  };
}

} // namespace troupe
