#include "troupe/actors/supervisor.hpp"

#include <algorithm>
#include <utility>

#include "troupe/actors/supervisor_parts.hpp"
#include "troupe/actors/telemetry/log.hpp"
#include "troupe/models/host_memory.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using telemetry::log_level;

constexpr const char* device = "cpu";

void loaded(supervisor_ptr self, uint64_t serial, const model_status& status) {
  auto* entry = find(self->state, serial);
  if (!entry)
    return;
  entry->ready = true;
  entry->spec.registered = status.registered;
  entry->groups.clear();
  for (const auto& group : status.groups)
    if (!group.devices.empty())
      entry->groups.push_back(group.devices);
  auto took =
      std::chrono::duration_cast<std::chrono::microseconds>(self->clock().now() - entry->since);
  self->state.metrics->model(label_of(entry->spec))->load_time.set(took.count());
  publish_route(self, *entry);
  for (auto& waiter : std::exchange(entry->waiters, {}))
    waiter.deliver(status);
}

/// The entry stays, so that its status tells why, until it is unloaded or loaded anew.
void load_failed(supervisor_ptr self, uint64_t serial, const caf::error& err) {
  auto* entry = find(self->state, serial);
  if (!entry || entry->leaving)
    return;
  entry->problem = text_of(err);
  self->state.metrics->model(label_of(entry->spec))->loading_errors.add();
  dismiss(self, *entry);
  publish_route(self, *entry);
  for (auto& waiter : std::exchange(entry->waiters, {}))
    waiter.deliver(err);
}

caf::error check_load(const supervisor_state& state, const model_spec& spec) {
  if (state.draining)
    return caf::make_error(ec::shutting_down,
                           std::string{"no model is loaded while shutting down"});
  if (spec.name.empty())
    return caf::make_error(ec::invalid_request, std::string{"a model needs a name (model_name)"});
  auto it = state.models.find({spec.name, spec.registered.version});
  if (it == state.models.end())
    return caf::none;
  const auto& entry = it->second;
  if (entry.actor || entry.stopped || entry.leaving)
    return caf::make_error(ec::name_taken, "model '" + label_of(spec) +
                                               "' is registered already: unload it first, or "
                                               "choose another name or version");
  return caf::none;
}

caf::result<model_status> load(supervisor_ptr self, model_spec& spec) {
  auto& state = self->state;
  if (auto err = check_load(state, spec))
    return err;
  auto& entry = state.models[{spec.name, spec.registered.version}];
  entry = supervised_model{};
  entry.serial = ++state.serials;
  entry.spec = std::move(spec);
  auto& as = entry.spec.registered;
  as.min_workers = std::min(as.min_workers, as.max_workers);
  auto promise = self->make_response_promise<model_status>();
  entry.waiters.push_back(promise);
  launch(self, entry);
  return promise;
}

/// A model died that was neither unloaded nor told to. Its requests have heard; it is started anew
/// after a while, as often as its specification allows.
void model_died(supervisor_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  for (auto& [key, entry] : state.models) {
    if (!entry.actor || down.source != entry.actor.address())
      continue;
    auto label = label_of(entry.spec);
    entry.actor = nullptr;
    entry.ready = false;
    entry.problem = "the model's actor died: " + caf::to_string(down.reason);
    state.memory.release(label);
    telemetry::log(log_level::error, {}, "model '" + label + "': " + entry.problem);
    publish_route(self, entry);
    if (!state.draining && !entry.leaving && ++entry.deaths <= entry.spec.retry_threshold)
      self->delayed_send(self,
                         backoff_after(entry.deaths, state.factories.first_backoff,
                                       state.factories.longest_backoff),
                         timeout_atom_v, entry.serial);
    return;
  }
}

void restart(supervisor_ptr self, uint64_t serial) {
  auto* entry = find(self->state, serial);
  if (!entry || entry->actor || entry->leaving || entry->stopped || self->state.draining)
    return;
  launch(self, *entry);
}

/// What the model needs is kept in the ledger; what it wants left free, is asked of the system too.
caf::result<done_atom> reserve(supervisor_state& state, const std::string& label, uint64_t weights,
                               uint64_t kv) {
  auto it = std::find_if(state.models.begin(), state.models.end(),
                         [&](const auto& x) { return label_of(x.second.spec) == label; });
  uint64_t spare = 0;
  if (it != state.models.end() && weights > 0) {
    const auto& as = it->second.spec.registered;
    spare = as.reserved_bytes;
    weights = std::max(weights, as.required_bytes);
  }
  if (auto err = state.memory.reserve(device, label, weights, kv, spare))
    return err;
  if (const auto free = models::available_memory(); spare > 0 && free < weights + spare) {
    state.memory.release(label);
    return caf::make_error(ec::out_of_memory,
                           "model '" + label + "' needs " + std::to_string(weights >> 20) +
                               " MiB and leaves less than reserved_memory_mb (" +
                               std::to_string(spare >> 20) + " MiB) of the " +
                               std::to_string(free >> 20) +
                               " MiB that are free: unload another model, or lower "
                               "reserved_memory_mb or required_memory_mb");
  }
  return done_atom_v;
}

} // namespace

std::string label_of(const model_spec& spec) {
  return troupe::label_of(spec.name, spec.registered.version);
}

supervised_model* find(supervisor_state& state, uint64_t serial) {
  auto it = std::find_if(state.models.begin(), state.models.end(),
                         [=](const auto& x) { return x.second.serial == serial; });
  return it == state.models.end() ? nullptr : &it->second;
}

std::vector<uint64_t> select(const supervisor_state& state, const std::string& name,
                             const std::optional<std::string>& version) {
  std::vector<uint64_t> serials;
  for (const auto& [key, entry] : state.models)
    if (key.name == name && key.version == version.value_or(key.version) && !entry.unloading)
      serials.push_back(entry.serial);
  return serials;
}

void publish_route(supervisor_ptr self, const supervised_model& entry) {
  auto engine = caf::actor_cast<engine_actor>(self->state.engine);
  if (!engine)
    return;
  const auto& spec = entry.spec;
  model_route route{spec.name,
                    spec.registered.version,
                    {},
                    entry.ready && !entry.leaving,
                    spec.registered.at_startup};
  // A model that stops takes nothing new; one that is unloaded says itself that it is leaving.
  if (entry.stopped)
    route.refusal = ec::no_workers;
  else
    route.actor = entry.actor;
  self->state.metrics->sent(actor_kind::engine);
  self->send(engine, std::move(route));
}

void dismiss(supervisor_ptr self, supervised_model& entry) {
  entry.ready = false;
  if (auto actor = std::exchange(entry.actor, nullptr)) {
    self->demonitor(actor.address());
    self->send_exit(actor, caf::exit_reason::user_shutdown);
  }
  self->state.memory.release(label_of(entry.spec));
}

void launch(supervisor_ptr self, supervised_model& entry) {
  auto& state = self->state;
  entry.actor = self->spawn(model_behavior, entry.spec, state.factories,
                            caf::actor_cast<supervisor_actor>(self), state.metrics);
  entry.problem.clear();
  entry.ready = false;
  entry.since = self->clock().now();
  self->monitor(entry.actor);
  publish_route(self, entry);
  state.metrics->sent(actor_kind::model);
  self->request(entry.actor, caf::infinite, load_atom_v)
      .then(
          [=, serial = entry.serial](const model_status& status) { loaded(self, serial, status); },
          [=, serial = entry.serial](const caf::error& err) { load_failed(self, serial, err); });
}

supervisor_state::~supervisor_state() {
  for (auto& [key, entry] : models)
    if (entry.actor)
      caf::anon_send_exit(entry.actor, caf::exit_reason::user_shutdown);
}

supervisor_actor::behavior_type supervisor_behavior(supervisor_ptr self, caf::actor_addr engine,
                                                    model_factories factories,
                                                    telemetry::metrics_ptr metrics,
                                                    uint64_t memory_bytes) {
  auto& state = self->state;
  state.engine = std::move(engine);
  state.factories = std::move(factories);
  state.metrics = std::move(metrics);
  state.memory.set_capacity(device, memory_bytes > 0 ? memory_bytes : usable_memory());
  self->set_down_handler([self](caf::down_msg& down) { model_died(self, down); });
  auto handled = [numbers = state.metrics] { numbers->handled(actor_kind::supervisor); };
  return {
      [=](load_atom, model_spec& spec) {
        handled();
        return load(self, spec);
      },
      [=](unload_atom, const std::string& name) {
        handled();
        return unload(self, name, std::nullopt);
      },
      [=](unload_atom, const std::string& name, const std::string& version) {
        handled();
        return unload(self, name, version);
      },
      [=](const worker_scaling& wanted) {
        handled();
        return scale(self, wanted);
      },
      [=](status_atom) {
        handled();
        return report_all(self);
      },
      [=](drain_atom, uint32_t wait_ms) {
        handled();
        return drain(self, wait_ms);
      },
      [=](reserve_atom, const std::string& label, uint64_t weights, uint64_t kv) {
        handled();
        return reserve(self->state, label, weights, kv);
      },
      [=](timeout_atom, uint64_t serial) { restart(self, serial); },
  };
}

} // namespace troupe
