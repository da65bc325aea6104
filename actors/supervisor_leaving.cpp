#include <utility>

#include "troupe/actors/supervisor_parts.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

/// A device that never comes back must not keep a model's name for ever.
constexpr std::chrono::seconds longest_unload{60};

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

} // namespace

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

} // namespace troupe
