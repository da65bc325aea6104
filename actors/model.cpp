#include "troupe/actors/model.hpp"

#include <algorithm>
#include <ctime>

#include "troupe/actors/model_loading.hpp"
#include "troupe/actors/model_workers.hpp"
#include "troupe/actors/request_plan.hpp"
#include "troupe/actors/telemetry/log.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using telemetry::log_level;

caf::error not_ready(const model_actor_state& state) {
  auto text =
      "model '" + state.spec.name + "' is not ready: " + std::string{to_string_view(state.phase)};
  if (!state.problem.empty())
    text += " (" + state.problem + ")";
  return caf::make_error(ec::model_not_ready, std::move(text));
}

// -- admission -----------------------------------------------------------------------------------

/// Every slot and every place in the queue is taken. Choices are counted, not requests: each of
/// them is a sequence that needs a slot.
bool is_full(const model_actor_state& state, uint32_t choices) {
  auto places = uint64_t{state.spec.queue_limit} + state.spec.load.max_sequences;
  return uint64_t{state.choices} + choices > places;
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

void begin_request(model_ptr self, const request_actor& request) {
  self->state.metrics->sent(actor_kind::request);
  self->send(request, submit_atom_v);
}

/// Begins those whose turn it is, and comes back when an incomplete batch has waited long enough.
void begin_calls(model_ptr self) {
  auto& state = self->state;
  if (!state.calls)
    return;
  const auto now = self->clock().now();
  for (auto id : state.calls->start(now))
    if (auto guest = state.guests.find(id); guest != state.guests.end())
      begin_request(self, guest->second.actor);
  if (auto calls = static_cast<int64_t>(state.calls->begun()); calls > 1) {
    state.numbers->call_batch.set(calls);
    if (state.window)
      state.window->add_batch(calls);
  }
  if (auto due = state.calls->due())
    self->delayed_send(self, std::max(*due - now, caf::actor_clock::duration_type{0}),
                       timeout_atom_v, static_cast<uint32_t>(model_timer::calls));
}

caf::result<request_actor> admit(model_ptr self, generation_request& request,
                                 const event_sink& sink) {
  auto& state = self->state;
  auto& ended = state.numbers->ended(telemetry::outcome::refused);
  if (state.phase == model_state::draining) {
    ended.add();
    return caf::make_error(ec::shutting_down,
                           "model '" + state.spec.name + "' is shutting down: ask another server");
  }
  if (state.phase != model_state::ready) {
    ended.add();
    return not_ready(state);
  }
  auto choices =
      std::clamp(std::max(request.params.best_of, request.params.search.lanes), 1u, max_choices);
  if (is_full(state, choices)) {
    ended.add();
    return caf::make_error(ec::queue_full,
                           "model '" + state.spec.name + "' has " + std::to_string(state.choices) +
                               " sequences running and waiting, as many as it takes "
                               "(max_rolling_batch_size + job_queue_size): try again later");
  }
  auto deadline_ms = request.deadline_ms;
  auto call = state.calls ? request.id : std::string{};
  auto actor = self->spawn(request_behavior, state.env, self->address(), std::move(request), sink);
  self->monitor(actor);
  model_guest guest{actor, sink, choices, {}};
  if (deadline_ms > 0) {
    guest.deadline = self->clock().now() + std::chrono::milliseconds{deadline_ms};
    state.deadlines.emplace(guest.deadline, actor.id());
  }
  state.guests.emplace(actor.id(), std::move(guest));
  state.choices += choices;
  arm_deadline(self);
  if (state.calls) {
    state.calls->arrive(actor.id(), call, self->clock().now());
    begin_calls(self);
  } else {
    begin_request(self, actor);
  }
  return actor;
}

void finish_drain(model_ptr self) {
  if (!self->state.guests.empty())
    return;
  for (auto& waiter : std::exchange(self->state.drain_waiters, {}))
    waiter.deliver(done_atom_v);
}

/// A request has ended; true when `down` was about one.
bool guest_left(model_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  auto it = state.guests.find(down.source.id());
  if (it == state.guests.end())
    return false;
  auto guest = std::move(it->second);
  state.guests.erase(it);
  state.choices -= guest.choices;
  if (state.calls) {
    state.calls->leave(down.source.id());
    begin_calls(self);
  }
  if (guest.deadline != caf::actor_clock::time_point{}) {
    auto [first, last] = state.deadlines.equal_range(guest.deadline);
    auto mine = std::find_if(first, last, [&](auto& x) { return x.second == down.source.id(); });
    if (mine != last)
      state.deadlines.erase(mine);
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

// -- status, tokens, drain
// -------------------------------------------------------------------------

model_status describe(const model_actor_state& state) {
  model_status s;
  s.name = state.spec.name;
  s.folder = state.spec.load.folder;
  s.state = state.phase;
  s.problem = state.problem;
  s.queued = state.choices;
  s.since_unix = state.ready_since;
  s.registered = state.spec.registered;
  s.queue_limit = state.spec.queue_limit;
  s.groups.push_back(describe_workers(state));
  uint64_t done = 0, total = 0;
  for (const auto& shard : state.shards) {
    done += shard.bytes_done;
    total += shard.bytes_total;
  }
  s.load_progress = state.phase == model_state::ready ? 1.0
                    : total > 0                       ? static_cast<double>(done) / total
                                                      : 0.0;
  if (state.env) {
    s.architecture = state.env->info.architecture;
    s.context = state.env->info.context;
    s.vocabulary = state.env->info.vocabulary;
    s.has_chat_template = state.env->tools->chat != nullptr;
  }
  return s;
}

/// The scheduler knows which sequences hold a slot; the rest of those in flight are waiting for
/// one, or for a tokenizer.
caf::result<model_status> report(model_ptr self) {
  auto& state = self->state;
  auto promise = self->make_response_promise<model_status>();
  if (!state.scheduler) {
    promise.deliver(describe(state));
    return promise;
  }
  state.metrics->sent(actor_kind::scheduler);
  self->request(state.scheduler, caf::infinite, status_atom_v)
      .then(
          [=](const scheduler_load& load) mutable {
            auto s = describe(self->state);
            s.running = std::min(load.running, s.queued);
            s.queued -= s.running;
            promise.deliver(std::move(s));
          },
          [=](const caf::error&) mutable { promise.deliver(describe(self->state)); });
  return promise;
}

caf::result<tokenize_answer> tokenize(model_ptr self, tokenize_request& request) {
  auto& state = self->state;
  if (!state.env)
    return not_ready(state);
  auto context = state.env->info.context;
  encode_job job{std::move(request.input), 0, context};
  auto promise = self->make_response_promise<tokenize_answer>();
  const auto& tokenizer = state.env->pool->pick(backlog_of(job));
  state.metrics->sent(actor_kind::tokenizer);
  self->request(tokenizer, caf::infinite, std::move(job))
      .then(
          [=](encoded_prompt& answer) mutable {
            promise.deliver(tokenize_answer{std::move(answer.tokens), context});
          },
          [=](caf::error& err) mutable { promise.deliver(std::move(err)); });
  return promise;
}

caf::result<std::string> detokenize(model_ptr self, detokenize_request& request) {
  auto& state = self->state;
  if (!state.env)
    return not_ready(state);
  auto vocabulary = state.env->info.vocabulary;
  for (auto token : request.tokens)
    if (token < 0 || static_cast<uint32_t>(token) >= vocabulary)
      return caf::make_error(ec::invalid_request, "token " + std::to_string(token) +
                                                      " is outside of the model's vocabulary of " +
                                                      std::to_string(vocabulary));
  const auto& tokenizer = state.env->pool->pick(backlog_of(request));
  state.metrics->sent(actor_kind::tokenizer);
  return self->delegate(tokenizer, std::move(request));
}

caf::result<done_atom> drain(model_ptr self, uint32_t wait_ms) {
  auto& state = self->state;
  auto promise = self->make_response_promise<done_atom>();
  state.drain_waiters.push_back(promise);
  if (state.phase != model_state::failed)
    state.phase = model_state::draining;
  if (wait_ms == 0)
    tell_guests(self, drain_cut_short(state.spec.name));
  else
    for (auto& [id, guest] : state.guests)
      self->send(guest.actor, drain_atom_v);
  if (!state.guests.empty() && wait_ms > 0)
    self->delayed_send(self, std::chrono::milliseconds{wait_ms}, timeout_atom_v,
                       static_cast<uint32_t>(model_timer::drain));
  finish_drain(self);
  return promise;
}

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

void timed_out(model_ptr self, model_timer which) {
  auto& state = self->state;
  switch (which) {
  case model_timer::loading:
    if (state.phase == model_state::loading)
      give_up(self, caf::make_error(ec::model_not_ready,
                                    "loading took longer than " +
                                        std::to_string(state.spec.loading_timeout_ms) +
                                        " ms (model_loading_timeout)"));
    break;
  case model_timer::reload:
    reload_dead_shards(self);
    break;
  case model_timer::drain:
    tell_guests(self, drain_timed_out(state.spec.name));
    break;
  case model_timer::calls:
    begin_calls(self);
    break;
  case model_timer::deadline:
    check_deadlines(self);
    break;
  }
}

} // namespace

void set_ready(model_ptr self) {
  auto& state = self->state;
  if (state.phase != model_state::draining)
    state.phase = model_state::ready;
  state.problem.clear();
  if (state.ready_since == 0)
    state.ready_since = std::time(nullptr);
  staff_workers(state);
  for (auto& waiter : std::exchange(state.load_waiters, {}))
    waiter.deliver(describe(state));
}

void give_up(model_ptr self, caf::error err) {
  auto& state = self->state;
  telemetry::log(log_level::error, {}, "model '" + state.spec.name + "' failed: " + text_of(err));
  state.phase = model_state::failed;
  state.problem = text_of(err);
  tell_guests(self, err);
  dismiss_children(state);
  if (state.supervisor) {
    state.metrics->sent(actor_kind::supervisor);
    self->request(state.supervisor, caf::infinite, reserve_atom_v,
                  label_of(state.spec.name, state.spec.registered.version), uint64_t{0},
                  uint64_t{0})
        .then([](done_atom) {}, [](const caf::error&) {});
  }
  for (auto& waiter : std::exchange(state.load_waiters, {}))
    waiter.deliver(err);
}

void tell_guests(model_ptr self, const caf::error& err) {
  for (auto& [id, guest] : self->state.guests)
    self->send(guest.actor, drain_atom_v, err);
}

caf::error drain_cut_short(const std::string& model) {
  return caf::make_error(ec::shutting_down, "model '" + model +
                                                "' is shutting down at once: send the request to "
                                                "another server");
}

caf::error drain_timed_out(const std::string& model) {
  return caf::make_error(ec::shutting_down, "model '" + model +
                                                "' is shutting down and its drain timeout has "
                                                "passed: send the request to another server");
}

model_actor_state::~model_actor_state() {
  dismiss_children(*this);
}

model_actor::behavior_type model_behavior(model_ptr self, model_spec spec,
                                          model_factories factories, supervisor_actor supervisor,
                                          telemetry::metrics_ptr metrics) {
  auto& state = self->state;
  state.spec = std::move(spec);
  if (state.spec.call_batch > 0)
    state.calls.emplace(state.spec.call_batch, std::chrono::milliseconds{state.spec.call_delay_ms});
  state.factories = std::move(factories);
  state.supervisor = std::move(supervisor);
  state.metrics = std::move(metrics);
  state.numbers = state.metrics->model(label_of(state.spec.name, state.spec.registered.version));
  if (auto every = state.spec.registered.sum_up_every; every > 0)
    state.window = std::make_shared<telemetry::request_window>(state.numbers, every);
  self->set_down_handler([self](caf::down_msg& down) {
    if (!guest_left(self, down) && !child_left(self, down))
      child_died(self, down);
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
      [=](scale_atom, uint32_t min, uint32_t max) {
        handled();
        scale_workers(self->state, min, max);
        return describe(self->state);
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
      [=](loaded_atom) { parts_ready(self); },
      [=](fault_atom, const caf::error& err) { parts_failed(self, err); },
      [=](timeout_atom, uint32_t which) { timed_out(self, static_cast<model_timer>(which)); },
  };
}

} // namespace troupe
