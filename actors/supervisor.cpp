#include "troupe/actors/supervisor.hpp"

#include "troupe/actors/telemetry/log.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;
using telemetry::log_level;

constexpr const char* device = "cpu";

/// Asks several actors and delivers once all have answered; CAF 0.17 has no gathering of its own.
template <class T>
struct gathering {
  size_t missing = 0;
  std::vector<T> answers;
  caf::typed_response_promise<std::vector<T>> promise;
};

void publish_route(supervisor_ptr self, const std::string& name) {
  auto engine = caf::actor_cast<engine_actor>(self->state.engine);
  if (!engine)
    return;
  self->state.metrics->sent(actor_kind::engine);
  auto it = self->state.models.find(name);
  if (it == self->state.models.end())
    self->send(engine, route_atom_v, name);
  else
    self->send(engine, route_atom_v, name, it->second.actor);
}

void launch(supervisor_ptr self, supervised_model& entry) {
  auto& state = self->state;
  entry.actor = self->spawn(model_behavior, entry.spec, state.factories,
                            caf::actor_cast<supervisor_actor>(self), state.metrics);
  entry.problem.clear();
  self->monitor(entry.actor);
  publish_route(self, entry.spec.name);
}

model_status describe_absent(const supervised_model& entry) {
  model_status s;
  s.name = entry.spec.name;
  s.folder = entry.spec.load.folder;
  s.state = model_state::failed;
  s.problem = entry.problem;
  return s;
}

/// The entry stays, so that its status tells why, until it is unloaded or loaded anew.
void load_failed(supervisor_ptr self, const std::string& name, const caf::error& err) {
  auto& state = self->state;
  auto it = state.models.find(name);
  if (it == state.models.end())
    return;
  it->second.problem = text_of(err);
  if (auto actor = std::exchange(it->second.actor, nullptr)) {
    self->demonitor(actor.address());
    self->send_exit(actor, caf::exit_reason::user_shutdown);
  }
  state.memory.release(name);
  publish_route(self, name);
}

caf::error check_load(const supervisor_state& state, const model_spec& spec) {
  if (state.draining)
    return caf::make_error(ec::shutting_down,
                           std::string{"no model is loaded while shutting down"});
  if (spec.name.empty())
    return caf::make_error(ec::invalid_request, std::string{"a model needs a name (model_name)"});
  auto it = state.models.find(spec.name);
  if (it != state.models.end() && it->second.actor)
    return caf::make_error(ec::invalid_request, "model '" + spec.name +
                                                    "' is registered already: unload it first, or "
                                                    "choose another name");
  return caf::none;
}

caf::result<model_status> load(supervisor_ptr self, model_spec& spec) {
  auto& state = self->state;
  if (auto err = check_load(state, spec))
    return err;
  auto name = spec.name;
  auto& entry = state.models[name];
  entry = supervised_model{};
  entry.spec = std::move(spec);
  launch(self, entry);
  auto promise = self->make_response_promise<model_status>();
  state.metrics->sent(actor_kind::model);
  self->request(entry.actor, caf::infinite, load_atom_v)
      .then([=](model_status& status) mutable { promise.deliver(std::move(status)); },
            [=](caf::error& err) mutable {
              load_failed(self, name, err);
              promise.deliver(std::move(err));
            });
  return promise;
}

void forget(supervisor_ptr self, const std::string& name) {
  auto& state = self->state;
  if (auto it = state.models.find(name); it != state.models.end()) {
    if (it->second.actor) {
      self->demonitor(it->second.actor.address());
      self->send_exit(it->second.actor, caf::exit_reason::user_shutdown);
    }
    state.models.erase(it);
  }
  state.memory.release(name);
  publish_route(self, name);
}

caf::result<model_status> unload(supervisor_ptr self, const std::string& name) {
  auto& state = self->state;
  auto it = state.models.find(name);
  if (it == state.models.end() || it->second.unloading)
    return caf::make_error(ec::model_not_found, "Model or workflow not found: " + name);
  auto status = describe_absent(it->second);
  if (!it->second.actor) {
    forget(self, name);
    return status;
  }
  it->second.unloading = true;
  status.state = model_state::draining;
  auto promise = self->make_response_promise<model_status>();
  state.metrics->sent(actor_kind::model);
  self->request(it->second.actor, caf::infinite, drain_atom_v, unload_drain_ms)
      .then(
          [=](done_atom) mutable {
            forget(self, name);
            promise.deliver(status);
          },
          [=](const caf::error&) mutable {
            forget(self, name);
            promise.deliver(status);
          });
  return promise;
}

caf::result<std::vector<model_status>> report(supervisor_ptr self) {
  auto& state = self->state;
  auto gathered = std::make_shared<gathering<model_status>>();
  gathered->promise = self->make_response_promise<std::vector<model_status>>();
  gathered->answers.reserve(state.models.size());
  gathered->missing = 1;
  auto one_less = [gathered] {
    if (--gathered->missing == 0)
      gathered->promise.deliver(std::move(gathered->answers));
  };
  for (auto& [name, entry] : state.models) {
    auto place = gathered->answers.size();
    gathered->answers.push_back(describe_absent(entry));
    if (!entry.actor)
      continue;
    ++gathered->missing;
    state.metrics->sent(actor_kind::model);
    self->request(entry.actor, caf::infinite, status_atom_v)
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

caf::result<done_atom> drain(supervisor_ptr self, uint32_t wait_ms) {
  auto& state = self->state;
  state.draining = true;
  auto promise = self->make_response_promise<done_atom>();
  auto missing = std::make_shared<size_t>(1);
  auto one_less = [missing, promise]() mutable {
    if (--*missing == 0)
      promise.deliver(done_atom_v);
  };
  for (auto& [name, entry] : state.models) {
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
  for (auto& [name, entry] : state.models) {
    if (!entry.actor || down.source != entry.actor.address())
      continue;
    entry.actor = nullptr;
    entry.problem = "the model's actor died: " + caf::to_string(down.reason);
    state.memory.release(name);
    telemetry::log(log_level::error, {}, "model '" + name + "': " + entry.problem);
    publish_route(self, name);
    if (!state.draining && !entry.unloading && ++entry.deaths <= entry.spec.retry_threshold)
      self->delayed_send(self,
                         backoff_after(entry.deaths, state.factories.first_backoff,
                                       state.factories.longest_backoff),
                         timeout_atom_v, name);
    return;
  }
}

void restart(supervisor_ptr self, const std::string& name) {
  auto it = self->state.models.find(name);
  if (it == self->state.models.end() || it->second.actor || it->second.unloading ||
      self->state.draining)
    return;
  launch(self, it->second);
}

} // namespace

supervisor_state::~supervisor_state() {
  for (auto& [name, entry] : models)
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
        return unload(self, name);
      },
      [=](status_atom) {
        handled();
        return report(self);
      },
      [=](drain_atom, uint32_t wait_ms) {
        handled();
        return drain(self, wait_ms);
      },
      [=](reserve_atom, const std::string& name, uint64_t weights,
          uint64_t kv) -> caf::result<done_atom> {
        handled();
        if (auto err = self->state.memory.reserve(device, name, weights, kv))
          return err;
        return done_atom_v;
      },
      [=](timeout_atom, const std::string& name) { restart(self, name); },
  };
}

} // namespace troupe
