#include <algorithm>
#include <chrono>

#include <malloc.h>

#include "troupe/actors/model_parts.hpp"
#include "troupe/actors/spawn_apart.hpp"
#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/guarded.hpp"

namespace troupe {

namespace {

using telemetry::log_level;

struct loader_state {
  static constexpr const char* name = "loader";
};

/// Does the slow part of loading on a thread of its own, puts the result where the model finds it
/// when told, and ends.
void loader(caf::stateful_actor<loader_state>* self, model_actor owner, model_spec spec,
            model_factories factories, std::shared_ptr<loaded_parts> parts) {
  auto plan = guarded(ec::bad_model, [&] { return factories.plan(spec.load); });
  if (!plan) {
    self->send(owner, fault_atom_v, std::move(plan.error()));
    return;
  }
  auto text = guarded(ec::bad_model, [&] { return factories.text(spec); });
  if (!text) {
    self->send(owner, fault_atom_v, std::move(text.error()));
    return;
  }
  for (const auto& line : plan->description)
    telemetry::log(log_level::info, {}, "model '" + spec.name + "': " + line);
  parts->plan = std::move(*plan);
  parts->tools = std::make_shared<const text_tools>(std::move(*text));
  self->send(owner, loaded_atom_v);
}

void make_tokenizer(model_ptr self, tokenizer_pool::member& member) {
  auto& state = self->state;
  member.bytes = std::make_shared<std::atomic<uint64_t>>(0);
  member.actor = spawn_apart(self, state.factories.detached, tokenizer_behavior, state.parts->tools,
                             member.bytes, state.metrics);
  self->monitor(member.actor);
}

/// What requests get to see; made anew whenever a handle in it changes.
void publish_environment(model_ptr self) {
  auto& state = self->state;
  auto env = std::make_shared<request_environment>();
  env->model = state.spec.name;
  env->info = state.parts->plan.info;
  // A sequence cannot outgrow the whole cache either.
  auto capacity = uint64_t{state.parts->plan.kv_blocks} * state.parts->plan.kv_block_tokens;
  if (env->info.context == 0 || env->info.context > capacity)
    env->info.context = static_cast<uint32_t>(std::min<uint64_t>(capacity, UINT32_MAX));
  env->tools = state.parts->tools;
  env->pool = std::make_shared<const tokenizer_pool>(state.tokenizers);
  env->several_copies = state.parts->plan.another != nullptr;
  env->metrics = state.metrics;
  env->numbers = state.numbers;
  env->window = state.window;
  state.env = std::move(env);
}

void make_children(model_ptr self) {
  auto& state = self->state;
  if (state.phase != model_state::loading && state.phase != model_state::draining)
    return;
  state.tokenizers.resize(std::max(1u, state.spec.tokenizer_threads));
  for (auto& member : state.tokenizers)
    make_tokenizer(self, member);
  publish_environment(self);
  begin_copies(self);
}

void finish_unload(model_ptr self) {
  auto& state = self->state;
  if (!state.leaving.empty() || state.unload_waiters.empty())
    return;
  // What the allocator keeps in its pools is memory that another model could have.
  if (state.factories.detached)
    malloc_trim(0);
  for (auto& waiter : std::exchange(state.unload_waiters, {}))
    waiter.deliver(done_atom_v);
}

} // namespace

std::chrono::milliseconds backoff_after(uint32_t deaths, std::chrono::milliseconds first,
                                        std::chrono::milliseconds longest) {
  auto wait = first;
  for (uint32_t i = 1; i < deaths && wait < longest; ++i)
    wait *= 2;
  return std::min(wait, longest);
}

void begin_loading(model_ptr self) {
  auto& state = self->state;
  state.parts = std::make_shared<loaded_parts>();
  spawn_apart(self, state.factories.detached, loader, caf::actor_cast<model_actor>(self),
              state.spec, state.factories, state.parts);
  if (state.spec.loading_timeout_ms > 0)
    self->delayed_send(self, std::chrono::milliseconds{state.spec.loading_timeout_ms},
                       timeout_atom_v, static_cast<uint32_t>(model_timer::loading));
}

void parts_ready(model_ptr self) {
  auto& state = self->state;
  if (state.phase == model_state::failed)
    return;
  const auto& plan = state.parts->plan;
  // What is free on GPUs their drivers tell, and the plan has asked them.
  if (!state.supervisor || !plan.devices.empty())
    return make_children(self);
  state.metrics->sent(telemetry::actor_kind::supervisor);
  self->request(state.supervisor, caf::infinite, reserve_atom_v,
                label_of(state.spec.name, state.spec.registered.version), plan.info.weight_bytes,
                uint64_t{plan.kv_blocks} * plan.kv_block_bytes)
      .then([=](done_atom) { make_children(self); },
            [=](const caf::error& err) { parts_failed(self, err); });
}

void parts_failed(model_ptr self, const caf::error& err) {
  if (self->state.phase != model_state::failed)
    give_up(self, err);
}

bool tokenizer_died(model_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  for (auto& member : state.tokenizers)
    if (member.actor && down.source == member.actor.address()) {
      // Jobs in its mailbox have been answered with an error; the next ones find its successor.
      telemetry::log(log_level::error, {},
                     "model '" + state.spec.name +
                         "': a tokenizer died: " + caf::to_string(down.reason));
      make_tokenizer(self, member);
      publish_environment(self);
      return true;
    }
  return false;
}

void dismiss_children(model_ptr self) {
  auto& state = self->state;
  // Copies end by themselves once their shards have given the devices' memory back.
  for (auto& [id, copy] : state.copies) {
    state.leaving.insert(copy.actor.id());
    state.metrics->sent(telemetry::actor_kind::replica);
    self->request(copy.actor, caf::infinite, unload_atom_v)
        .then([](done_atom) {}, [](const caf::error&) {});
  }
  state.copies.clear();
  for (auto& member : state.tokenizers)
    if (member.actor) {
      state.leaving.insert(member.actor.id());
      caf::anon_send_exit(member.actor, caf::exit_reason::user_shutdown);
    }
  state.tokenizers.clear();
  state.env = nullptr;
  state.parts = nullptr;
}

caf::result<done_atom> unload_model(model_ptr self) {
  auto& state = self->state;
  auto promise = self->make_response_promise<done_atom>();
  state.unload_waiters.push_back(promise);
  state.phase = model_state::failed;
  state.problem = "it was unloaded";
  auto err = caf::make_error(ec::cancelled, "model '" + state.spec.name + "' was unloaded");
  for (auto& waiter : std::exchange(state.load_waiters, {}))
    waiter.deliver(err);
  for (auto& scaling : std::exchange(state.scalings, {}))
    scaling.promise.deliver(err);
  tell_guests(self, caf::make_error(ec::shutting_down,
                                    "model '" + state.spec.name +
                                        "' is shutting down at once: send the request to another "
                                        "server"));
  dismiss_children(self);
  finish_unload(self);
  return promise;
}

bool child_left(model_ptr self, const caf::down_msg& down) {
  if (self->state.leaving.erase(down.source.id()) == 0)
    return false;
  finish_unload(self);
  return true;
}

} // namespace troupe
