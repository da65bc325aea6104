#include "troupe/actors/supervisor.hpp"

#include <algorithm>
#include <functional>
#include <optional>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/models/host_memory.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using telemetry::log_level;

constexpr const char* device = "cpu";

/// A device that never comes back must not keep a model's name for ever.
constexpr std::chrono::seconds longest_unload{60};

/// Asks several actors and delivers once all have answered; CAF 0.17 has no gathering of its own.
template <class T>
struct gathering {
  size_t missing = 0;
  std::vector<T> answers;
  caf::typed_response_promise<std::vector<T>> promise;
};

std::string label_of(const model_spec& spec) {
  return troupe::label_of(spec.name, spec.registered.version);
}

supervised_model* find(supervisor_state& state, uint64_t serial) {
  auto it = std::find_if(state.models.begin(), state.models.end(),
                         [=](const auto& x) { return x.second.serial == serial; });
  return it == state.models.end() ? nullptr : &it->second;
}

/// The registered ones of that name, or that version of it alone.
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

/// Ends its actor, if there is one, and gives back what it had reserved.
void dismiss(supervisor_ptr self, supervised_model& entry) {
  entry.ready = false;
  if (auto actor = std::exchange(entry.actor, nullptr)) {
    self->demonitor(actor.address());
    self->send_exit(actor, caf::exit_reason::user_shutdown);
  }
  self->state.memory.release(label_of(entry.spec));
}

// -- loading -------------------------------------------------------------------------------------

void loaded(supervisor_ptr self, uint64_t serial, const model_status& status) {
  auto* entry = find(self->state, serial);
  if (!entry)
    return;
  entry->ready = true;
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

// -- status --------------------------------------------------------------------------------------

model_status describe_absent(const supervised_model& entry) {
  model_status s;
  s.name = entry.spec.name;
  s.folder = entry.spec.load.folder;
  s.state = entry.stopped ? model_state::stopped : model_state::failed;
  s.problem = entry.problem;
  s.registered = entry.spec.registered;
  s.queue_limit = entry.spec.queue_limit;
  worker_group group;
  group.min_workers = s.registered.min_workers;
  group.max_workers = s.registered.max_workers;
  s.groups.push_back(std::move(group));
  return s;
}

/// The status of these models, once all have answered.
caf::result<std::vector<model_status>> report(supervisor_ptr self,
                                              const std::vector<uint64_t>& serials) {
  auto& state = self->state;
  auto gathered = std::make_shared<gathering<model_status>>();
  gathered->promise = self->make_response_promise<std::vector<model_status>>();
  gathered->answers.reserve(serials.size());
  gathered->missing = 1;
  auto one_less = [gathered] {
    if (--gathered->missing == 0)
      gathered->promise.deliver(std::move(gathered->answers));
  };
  for (auto serial : serials) {
    auto* entry = find(state, serial);
    if (!entry)
      continue;
    auto place = gathered->answers.size();
    gathered->answers.push_back(describe_absent(*entry));
    if (!entry->actor || entry->stopped)
      continue;
    ++gathered->missing;
    state.metrics->sent(actor_kind::model);
    self->request(entry->actor, caf::infinite, status_atom_v)
        .then(
            [=](model_status& status) {
              gathered->answers[place] = std::move(status);
              one_less();
            },
            [=](const caf::error& err) {
              gathered->answers[place].problem = caf::to_string(err);
              one_less();
            });
  }
  one_less();
  return gathered->promise;
}

caf::result<std::vector<model_status>> report_all(supervisor_ptr self) {
  std::vector<uint64_t> serials;
  for (const auto& [key, entry] : self->state.models)
    serials.push_back(entry.serial);
  return report(self, serials);
}

// -- leaving -------------------------------------------------------------------------------------

/// Lets a model's requests finish, then its children end, and calls `then` once all of its memory
/// is given back. Its entry stays.
void retire(supervisor_ptr self, supervised_model& entry, std::function<void()> then) {
  entry.leaving = true;
  auto err = caf::make_error(ec::cancelled, "model '" + label_of(entry.spec) +
                                                "' was unloaded while it was loading");
  for (auto& waiter : std::exchange(entry.waiters, {}))
    waiter.deliver(err);
  publish_route(self, entry);
  if (!entry.actor)
    return then();
  auto actor = entry.actor;
  auto gone = [=](const caf::error&) { then(); };
  self->state.metrics->sent(actor_kind::model);
  self->request(actor, caf::infinite, drain_atom_v, unload_drain_ms)
      .then(
          [=](done_atom) {
            self->state.metrics->sent(actor_kind::model);
            self->request(actor, longest_unload, unload_atom_v)
                .then([=](done_atom) { then(); }, gone);
          },
          gone);
}

void forget(supervisor_ptr self, uint64_t serial) {
  auto& state = self->state;
  auto it = std::find_if(state.models.begin(), state.models.end(),
                         [=](const auto& x) { return x.second.serial == serial; });
  if (it == state.models.end())
    return;
  dismiss(self, it->second);
  state.metrics->forget(label_of(it->second.spec));
  if (auto engine = caf::actor_cast<engine_actor>(state.engine)) {
    state.metrics->sent(actor_kind::engine);
    self->send(engine, route_atom_v, it->first.name, it->first.version);
  }
  state.models.erase(it);
}

/// @param version Absent: all versions.
caf::result<model_status> unload(supervisor_ptr self, const std::string& name,
                                 const std::optional<std::string>& version) {
  auto& state = self->state;
  auto serials = select(state, name, version);
  if (serials.empty())
    return caf::make_error(ec::model_not_found, "Model or workflow not found: " +
                                                    troupe::label_of(name, version.value_or("")));
  auto status = describe_absent(*find(state, serials.front()));
  status.state = model_state::draining;
  auto promise = self->make_response_promise<model_status>();
  auto missing = std::make_shared<size_t>(serials.size());
  for (auto serial : serials) {
    auto* entry = find(state, serial);
    entry->unloading = true;
    retire(self, *entry, [=]() mutable {
      forget(self, serial);
      if (--*missing == 0)
        promise.deliver(status);
    });
  }
  return promise;
}

// -- scaling -------------------------------------------------------------------------------------

/// The numbers that `wanted` leaves a model with.
registration scaled(registration as, const worker_scaling& wanted) {
  constexpr int64_t most = 1'000'000;
  if (wanted.max >= 0)
    as.max_workers = static_cast<uint32_t>(std::min(wanted.max, most));
  if (wanted.min >= 0)
    as.min_workers = static_cast<uint32_t>(std::min(wanted.min, most));
  as.min_workers = std::min(as.min_workers, as.max_workers);
  return as;
}

/// Its actor goes, its entry stays; a later scaling brings it back.
void stop(supervisor_ptr self, supervised_model& entry, std::function<void()> then) {
  entry.stopped = true;
  retire(self, entry, [=, serial = entry.serial] {
    if (auto* stopped = find(self->state, serial)) {
      stopped->leaving = false;
      dismiss(self, *stopped);
    }
    then();
  });
}

caf::result<std::vector<model_status>> scale(supervisor_ptr self, const worker_scaling& wanted) {
  auto& state = self->state;
  auto version = wanted.version.empty() ? std::nullopt : std::optional{wanted.version};
  auto serials = select(state, wanted.model, version);
  if (serials.empty())
    return caf::make_error(ec::model_not_found, "Model or workflow not found: " +
                                                    troupe::label_of(wanted.model, wanted.version));
  for (auto serial : serials) {
    const auto* entry = find(state, serial);
    if (entry->leaving || !(entry->stopped || (entry->actor && entry->ready)))
      return caf::make_error(ec::model_not_ready,
                             "Model or workflow is not ready: " + label_of(entry->spec));
  }
  auto promise = self->make_response_promise<std::vector<model_status>>();
  auto missing = std::make_shared<size_t>(serials.size());
  auto problem = std::make_shared<caf::error>();
  auto one_less = [=](const caf::error& err) mutable {
    if (err)
      *problem = err;
    if (--*missing > 0)
      return;
    if (*problem) {
      promise.deliver(*problem);
      return;
    }
    self->state.metrics->sent(actor_kind::supervisor);
    self->request(caf::actor_cast<supervisor_actor>(self), caf::infinite, status_atom_v)
        .then(
            [=](std::vector<model_status>& all) mutable {
              std::erase_if(all, [&](const model_status& x) {
                return x.name != wanted.model ||
                       x.registered.version != version.value_or(x.registered.version);
              });
              promise.deliver(std::move(all));
            },
            [=](caf::error& why) mutable { promise.deliver(std::move(why)); });
  };
  for (auto serial : serials) {
    auto* entry = find(state, serial);
    auto& as = entry->spec.registered;
    as = scaled(as, wanted);
    if (as.max_workers == 0 && entry->stopped) {
      one_less(caf::none);
    } else if (as.max_workers == 0) {
      stop(self, *entry, [=]() mutable { one_less(caf::none); });
    } else if (entry->stopped) {
      entry->stopped = false;
      launch(self, *entry);
      state.metrics->sent(actor_kind::model);
      self->request(entry->actor, caf::infinite, load_atom_v)
          .then([=](const model_status&) mutable { one_less(caf::none); },
                [=](const caf::error& err) mutable { one_less(err); });
    } else {
      state.metrics->sent(actor_kind::model);
      self->request(entry->actor, caf::infinite, scale_atom_v, as.min_workers, as.max_workers)
          .then([=](const model_status&) mutable { one_less(caf::none); },
                [=](const caf::error& err) mutable { one_less(err); });
    }
  }
  return promise;
}

// -- ends ----------------------------------------------------------------------------------------

caf::result<done_atom> drain(supervisor_ptr self, uint32_t wait_ms) {
  auto& state = self->state;
  state.draining = true;
  auto promise = self->make_response_promise<done_atom>();
  auto missing = std::make_shared<size_t>(1);
  auto one_less = [missing, promise]() mutable {
    if (--*missing == 0)
      promise.deliver(done_atom_v);
  };
  for (auto& [key, entry] : state.models) {
    if (!entry.actor)
      continue;
    ++*missing;
    state.metrics->sent(actor_kind::model);
    self->request(entry.actor, caf::infinite, drain_atom_v, wait_ms)
        .then([=](done_atom) mutable { one_less(); },
              [=](const caf::error&) mutable { one_less(); });
  }
  one_less();
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
