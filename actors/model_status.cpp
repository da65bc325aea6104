#include <algorithm>
#include <chrono>

#include "troupe/actors/model_parts.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

worker_state state_of(const model_actor_state& state, const model_copy& copy) {
  if (copy.leaving || state.phase == model_state::draining)
    return worker_state::unloading;
  return copy.phase == replica_phase::ready ? worker_state::ready : worker_state::loading;
}

worker_group describe_cpu(const model_actor_state& state) {
  worker_group group;
  group.min_workers = state.spec.registered.min_workers;
  group.max_workers = state.spec.registered.max_workers;
  group.workers = state.cpu_workers;
  if (state.phase == model_state::draining)
    for (auto& worker : group.workers)
      worker.state = worker_state::unloading;
  return group;
}

worker_group describe_place(const model_actor_state& state, size_t index) {
  const auto& place = state.places[index];
  worker_group group;
  group.device = place.devices.front();
  group.devices = place.devices;
  group.min_workers = place.min;
  group.max_workers = place.max;
  for (const auto& [id, copy] : state.copies)
    if (copy.place == index)
      group.workers.push_back({id, copy.since_ms, state_of(state, copy)});
  return group;
}

/// Whether somewhere fewer copies serve than there are to be at least.
bool is_short(const model_actor_state& state) {
  for (size_t i = 0; i < state.places.size(); ++i) {
    const auto here = std::count_if(state.copies.begin(), state.copies.end(), [=](const auto& x) {
      return x.second.place == i && x.second.serves();
    });
    if (static_cast<uint32_t>(here) < state.places[i].min)
      return true;
  }
  return false;
}

/// What is asked of several schedulers.
struct gathered_load {
  model_status status;
  uint32_t running = 0;
  size_t missing = 1;
  caf::typed_response_promise<model_status> promise;

  void one_less() {
    if (--missing > 0)
      return;
    status.running = std::min(running, status.queued);
    status.queued -= status.running;
    promise.deliver(std::move(status));
  }
};

} // namespace

int64_t milliseconds_now() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

model_status describe(const model_actor_state& state) {
  model_status s;
  s.name = state.spec.name;
  s.folder = state.spec.load.folder;
  s.state =
      state.phase == model_state::ready && is_short(state) ? model_state::degraded : state.phase;
  s.problem = state.problem;
  s.queued = state.choices;
  s.since_unix = state.ready_since;
  s.registered = state.spec.registered;
  s.queue_limit = state.spec.queue_limit;
  if (state.places.empty() || state.places.front().devices.empty())
    s.groups.push_back(describe_cpu(state));
  else
    for (size_t i = 0; i < state.places.size(); ++i)
      s.groups.push_back(describe_place(state, i));
  uint64_t done = 0, total = 0;
  for (const auto& [id, copy] : state.copies) {
    done += copy.bytes_done;
    total += copy.bytes_total;
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

/// The schedulers know which sequences hold a slot; the rest of those in flight are waiting for
/// one, or for a tokenizer.
caf::result<model_status> report(model_ptr self) {
  auto& state = self->state;
  auto gathered = std::make_shared<gathered_load>();
  gathered->promise = self->make_response_promise<model_status>();
  auto promise = gathered->promise;
  for (const auto& [id, copy] : state.copies) {
    if (!copy.scheduler)
      continue;
    ++gathered->missing;
    state.metrics->sent(actor_kind::scheduler);
    self->request(copy.scheduler, caf::infinite, status_atom_v)
        .then(
            [=](const scheduler_load& load) {
              gathered->running += load.running;
              gathered->status = describe(self->state);
              gathered->one_less();
            },
            [=](const caf::error&) {
              gathered->status = describe(self->state);
              gathered->one_less();
            });
  }
  gathered->status = describe(state);
  gathered->one_less();
  return promise;
}

void staff_cpu(model_actor_state& state) {
  if (state.places.empty() || !state.places.front().devices.empty())
    return;
  auto wanted = std::max(1u, state.spec.registered.min_workers);
  while (state.cpu_workers.size() > wanted)
    state.cpu_workers.pop_back();
  while (state.cpu_workers.size() < wanted)
    state.cpu_workers.push_back(
        {++state.cpu_workers_made, milliseconds_now(), worker_state::ready});
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

} // namespace troupe
