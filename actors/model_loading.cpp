#include "troupe/actors/model_loading.hpp"

#include <algorithm>

#include "troupe/actors/scheduler.hpp"
#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/guarded.hpp"

namespace troupe {

namespace {

using telemetry::log_level;

struct loader_state {
  static constexpr const char* name = "loader";
};

/// Spawns with a thread of its own, unless a test wants to move every message itself.
template <class F, class... Ts>
auto spawn_apart(model_ptr self, F f, Ts&&... xs) {
  return self->state.factories.detached
             ? self->template spawn<caf::detached>(f, std::forward<Ts>(xs)...)
             : self->spawn(f, std::forward<Ts>(xs)...);
}

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
  member.actor =
      spawn_apart(self, tokenizer_behavior, state.parts->tools, member.bytes, state.metrics);
  self->monitor(member.actor);
}

void make_scheduler(model_ptr self) {
  auto& state = self->state;
  const auto& plan = state.parts->plan;
  scheduler_options options;
  options.limits.max_step_tokens =
      plan.max_step_tokens > 0 ? plan.max_step_tokens : state.spec.load.max_step_tokens;
  if (plan.pipeline_chunk > 0)
    options.limits.prefill.pipeline_chunk = plan.pipeline_chunk;
  if (plan.step_overhead_tokens > 0)
    options.limits.prefill.step_overhead_tokens = plan.step_overhead_tokens;
  options.limits.max_sequences = state.spec.load.max_sequences;
  // Admission is the model's; the scheduler's own limit only guards against a second submitter.
  options.limits.max_waiting = state.spec.queue_limit + state.spec.load.max_sequences;
  options.limits.blocks = plan.kv_blocks;
  options.limits.block_tokens = plan.kv_block_tokens;
  options.limits.prefix_cache = state.spec.prefix_cache;
  options.limits.ahead = plan.schedules_ahead && plan.stages.size() == 1;
  if (auto measured = plan.block_move_ns)
    options.limits.swap = {.host_blocks = plan.kv_host_blocks,
                           .block_ns = [measured] { return static_cast<double>(*measured); }};
  options.limits.steps_in_flight = state.spec.load.steps_in_flight;
  options.needs_host = plan.needs_host;
  options.metrics = state.metrics;
  options.model = state.numbers;
  state.scheduler = self->spawn(scheduler, std::move(options));
  self->monitor(state.scheduler);
}

void make_shard(model_ptr self, uint32_t index) {
  auto& state = self->state;
  auto& place = state.shards[index];
  place = model_shard{};
  shard_options options;
  options.index = index;
  options.owner = caf::actor_cast<shard_owner>(self);
  options.make = state.parts->plan.stages[index];
  options.stop = place.stop.get_token();
  options.metrics = state.metrics;
  options.log = state.factories.shard_log;
  place.actor = spawn_apart(self, shard, std::move(options));
  self->monitor(place.actor);
}

/// What requests get to see; made anew whenever one of the handles in it changes.
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
  env->scheduler = state.scheduler;
  env->metrics = state.metrics;
  env->numbers = state.numbers;
  env->window = state.window;
  state.env = std::move(env);
}

void make_children(model_ptr self) {
  auto& state = self->state;
  if (state.phase != model_state::loading && state.phase != model_state::draining)
    return;
  make_scheduler(self);
  state.tokenizers.resize(std::max(1u, state.spec.tokenizer_threads));
  for (auto& member : state.tokenizers)
    make_tokenizer(self, member);
  publish_environment(self);
  state.shards.resize(state.parts->plan.stages.size());
  for (uint32_t i = 0; i < state.shards.size(); ++i)
    make_shard(self, i);
}

/// A new epoch: every shard learns its successor, then the scheduler learns of the shards.
void wire(model_ptr self) {
  auto& state = self->state;
  state.epoch = epoch_id{static_cast<uint32_t>(state.epoch) + 1};
  auto scheduler = caf::actor_cast<caf::actor>(state.scheduler);
  std::vector<shard_actor> actors;
  for (size_t i = 0; i < state.shards.size(); ++i) {
    auto next = i + 1 < state.shards.size() ? caf::actor_cast<caf::actor>(state.shards[i + 1].actor)
                                            : caf::actor{};
    state.metrics->sent(telemetry::actor_kind::shard);
    self->send(state.shards[i].actor, wire_atom_v, state.epoch, next, scheduler);
    actors.push_back(state.shards[i].actor);
  }
  state.metrics->sent(telemetry::actor_kind::scheduler);
  self->send(state.scheduler, wire_atom_v, state.epoch, std::move(actors));
}

bool all_loaded(const model_actor_state& state) {
  return std::all_of(state.shards.begin(), state.shards.end(),
                     [](const auto& shard) { return shard.loaded; });
}

/// Counts a death. False when it was one too many and the model has given up.
bool survive(model_ptr self, const std::string& who, const caf::error& why) {
  auto& state = self->state;
  auto cause = state.problem.empty() ? caf::to_string(why) : state.problem;
  telemetry::log(log_level::error, {},
                 "model '" + state.spec.name + "': " + who + " died: " + cause);
  if (++state.deaths <= state.spec.retry_threshold)
    return true;
  give_up(self, caf::make_error(ec::device_lost, who + " of model '" + state.spec.name +
                                                     "' died (" + cause + "), and " +
                                                     std::to_string(state.spec.retry_threshold) +
                                                     " deaths are survived (retry_threshold)"));
  return false;
}

void shard_died(model_ptr self, uint32_t index, const caf::error& why) {
  auto& state = self->state;
  auto who = "shard " + std::to_string(index);
  state.shards[index].actor = nullptr;
  state.shards[index].loaded = false;
  if (state.phase == model_state::loading)
    return give_up(self, caf::make_error(ec::device_lost,
                                         who + " died while loading: " + caf::to_string(why)));
  state.metrics->sent(telemetry::actor_kind::scheduler);
  self->send(state.scheduler, lost_atom_v);
  if (!survive(self, who, why))
    return;
  if (state.phase == model_state::ready)
    state.phase = model_state::reloading;
  auto wait =
      backoff_after(state.deaths, state.factories.first_backoff, state.factories.longest_backoff);
  self->delayed_send(self, wait, timeout_atom_v, static_cast<uint32_t>(model_timer::reload));
}

/// The sequences were the scheduler's memory, so its death ends them; the shards keep their layers
/// and serve the next one in a new epoch.
void scheduler_died(model_ptr self, const caf::error& why) {
  auto& state = self->state;
  state.scheduler = nullptr;
  auto err =
      caf::make_error(ec::internal, "the scheduler of model '" + state.spec.name + "' died (" +
                                        caf::to_string(why) + "); send the request again");
  tell_guests(self, err);
  if (!survive(self, "the scheduler", why))
    return;
  make_scheduler(self);
  publish_environment(self);
  if (all_loaded(state))
    wire(self);
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
  spawn_apart(self, loader, caf::actor_cast<model_actor>(self), state.spec, state.factories,
              state.parts);
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

void shard_loaded(model_ptr self, uint32_t index) {
  auto& state = self->state;
  if (state.phase == model_state::failed || index >= state.shards.size())
    return;
  state.shards[index].loaded = true;
  if (!all_loaded(state) || !state.scheduler)
    return;
  wire(self);
  set_ready(self);
}

void shard_failed(model_ptr self, uint32_t index, const caf::error& err) {
  auto& state = self->state;
  if (state.phase == model_state::loading)
    give_up(self, err);
  else if (state.phase != model_state::failed && index < state.shards.size())
    // Its death follows and is dealt with there; here is the reason.
    state.problem = text_of(err);
}

void shard_progress(model_ptr self, uint32_t index, uint64_t done, uint64_t total) {
  auto& shards = self->state.shards;
  if (index >= shards.size())
    return;
  shards[index].bytes_done = done;
  shards[index].bytes_total = total;
}

void child_died(model_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  if (state.scheduler && down.source == state.scheduler.address())
    return scheduler_died(self, down.reason);
  for (uint32_t i = 0; i < state.shards.size(); ++i)
    if (state.shards[i].actor && down.source == state.shards[i].actor.address())
      return shard_died(self, i, down.reason);
  for (auto& member : state.tokenizers)
    if (member.actor && down.source == member.actor.address()) {
      // Jobs in its mailbox have been answered with an error; the next ones find its successor.
      telemetry::log(log_level::error, {},
                     "model '" + state.spec.name +
                         "': a tokenizer died: " + caf::to_string(down.reason));
      make_tokenizer(self, member);
      return publish_environment(self);
    }
}

void reload_dead_shards(model_ptr self) {
  auto& state = self->state;
  if (state.phase == model_state::failed)
    return;
  for (uint32_t i = 0; i < state.shards.size(); ++i)
    if (!state.shards[i].actor)
      make_shard(self, i);
}

void dismiss_children(model_actor_state& state) {
  auto dismiss = [](auto& child) {
    if (child)
      caf::anon_send_exit(child, caf::exit_reason::user_shutdown);
    child = nullptr;
  };
  dismiss(state.scheduler);
  for (auto& shard : state.shards) {
    shard.stop.request_stop();
    dismiss(shard.actor);
  }
  state.shards.clear();
  for (auto& member : state.tokenizers)
    dismiss(member.actor);
  state.tokenizers.clear();
  state.env = nullptr;
  state.parts = nullptr;
}

} // namespace troupe
