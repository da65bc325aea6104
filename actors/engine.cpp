#include "troupe/actors/engine.hpp"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "troupe/actors/supervisor.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

using route_iterator = decltype(engine_state::routes)::iterator;

/// The name that a request without one means: that of the only start-up model.
route_iterator only_at_startup(engine_state& state) {
  auto found = state.routes.end();
  for (auto it = state.routes.begin(); it != state.routes.end(); ++it) {
    auto& versions = it->second.versions;
    if (std::none_of(versions.begin(), versions.end(), [](auto& x) { return x.second.at_startup; }))
      continue;
    if (found != state.routes.end())
      return state.routes.end();
    found = it;
  }
  return found;
}

/// The next version in turn; versions that cannot serve are passed over while another one can.
model_route& next_version(routed_name& entry) {
  auto& versions = entry.versions;
  auto able = [](const model_route& x) { return x.actor && x.ready; };
  const bool any =
      std::any_of(versions.begin(), versions.end(), [&](auto& x) { return able(x.second); });
  for (;;) {
    auto it = std::next(versions.begin(), static_cast<long>(entry.turn++ % versions.size()));
    if (!any || able(it->second))
      return it->second;
  }
}

caf::error not_found(const std::string& name) {
  return caf::make_error(ec::model_not_found, "Model or workflow not found: " + name);
}

/// Whom a request is for. Errors: ec::invalid_request (no name), model_not_found.
caf::expected<model_route*> find_route(engine_state& state, const std::string& name,
                                       const std::string& version, version_binding binding) {
  auto it = name.empty() ? only_at_startup(state) : state.routes.find(name);
  if (it == state.routes.end() && !name.empty())
    return not_found(name);
  if (it == state.routes.end())
    return state.routes.empty()
               ? caf::make_error(ec::model_not_found, std::string{"no model is loaded"})
               : caf::make_error(ec::invalid_request,
                                 std::string{"Parameter model_name is required."});
  auto& entry = it->second;
  if (version.empty() && binding == version_binding::named)
    return &next_version(entry);
  auto found = entry.versions.find(version);
  if (binding == version_binding::preferred &&
      (found == entry.versions.end() || !(found->second.actor && found->second.ready)))
    return &next_version(entry);
  if (found == entry.versions.end())
    return not_found(label_of(it->first, version));
  return &found->second;
}

caf::error unavailable(const model_route& route) {
  auto label = label_of(route.name, route.version);
  return route.refusal == ec::no_workers
             ? caf::make_error(ec::no_workers, "All model workers has been shutdown: " + label)
             : caf::make_error(ec::model_not_ready, "Model is not ready: " + label +
                                                        " (it failed; its status tells why)");
}

/// The actor that serves a request. Counts a refusal that the model cannot count itself, because
/// it is not asked.
template <class Request>
caf::expected<model_actor> find_model(engine_state& state, const Request& request) {
  constexpr bool submitted = std::is_same_v<Request, generation_request>;
  auto binding = version_binding::named;
  if constexpr (submitted)
    binding = request.binding;
  auto route = find_route(state, request.model, request.version, binding);
  if (submitted && route && (state.draining || !(*route)->actor))
    state.metrics->model(label_of((*route)->name, (*route)->version))
        ->ended(telemetry::outcome::refused)
        .add();
  if (submitted && state.draining)
    return caf::make_error(ec::shutting_down,
                           std::string{"the server is shutting down: ask another one"});
  if (!route)
    return std::move(route.error());
  const auto& found = **route;
  if (!found.actor)
    return unavailable(found);
  return found.actor;
}

/// Passes a request on to its model, which answers the sender itself.
template <class Answer, class Request, class... Ts>
caf::result<Answer> route(engine_ptr self, Request& request, Ts&&... xs) {
  auto model = find_model(self->state, request);
  if (!model)
    return std::move(model.error());
  self->state.metrics->sent(actor_kind::model);
  return self->delegate(*model, std::forward<Ts>(xs)...);
}

template <class... Ts>
auto ask_supervisor(engine_ptr self, Ts&&... xs) {
  self->state.metrics->sent(actor_kind::supervisor);
  return self->delegate(self->state.supervisor, std::forward<Ts>(xs)...);
}

} // namespace

engine_state::~engine_state() {
  if (supervisor)
    caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
}

engine_actor::behavior_type engine_behavior(engine_ptr self, telemetry::metrics_ptr metrics,
                                            engine_settings settings) {
  auto& state = self->state;
  state.metrics = std::move(metrics);
  state.supervisor =
      self->spawn(supervisor_behavior, self->address(), std::move(settings.factories),
                  state.metrics, settings.memory_bytes);
  // Without its registry an engine can do nothing; its owner sees it end.
  self->set_down_handler([self](caf::down_msg& down) { self->quit(std::move(down.reason)); });
  self->monitor(state.supervisor);
  auto handled = [numbers = state.metrics] { numbers->handled(actor_kind::engine); };
  return {
      [=](submit_atom, generation_request& request,
          const event_sink& sink) -> caf::result<request_actor> {
        handled();
        if (!sink)
          return caf::make_error(ec::invalid_request, std::string{"a request needs a sink"});
        return route<request_actor>(self, request, submit_atom_v, std::move(request), sink);
      },
      [=](tokenize_request& request) {
        handled();
        return route<tokenize_answer>(self, request, std::move(request));
      },
      [=](detokenize_request& request) {
        handled();
        return route<std::string>(self, request, std::move(request));
      },
      [=](load_atom, model_spec& spec) {
        handled();
        return ask_supervisor(self, load_atom_v, std::move(spec));
      },
      [=](unload_atom, std::string& name) {
        handled();
        return ask_supervisor(self, unload_atom_v, std::move(name));
      },
      [=](unload_atom, std::string& name, std::string& version) {
        handled();
        return ask_supervisor(self, unload_atom_v, std::move(name), std::move(version));
      },
      [=](worker_scaling& wanted) {
        handled();
        return ask_supervisor(self, std::move(wanted));
      },
      [=](status_atom) {
        handled();
        return ask_supervisor(self, status_atom_v);
      },
      [=](drain_atom, uint32_t wait_ms) {
        handled();
        self->state.draining = true;
        return ask_supervisor(self, drain_atom_v, wait_ms);
      },
      [=](model_route& route) {
        handled();
        auto& versions = self->state.routes[route.name].versions;
        versions[route.version] = std::move(route);
      },
      [=](route_atom, const std::string& name, const std::string& version) {
        handled();
        auto& routes = self->state.routes;
        auto it = routes.find(name);
        if (it == routes.end())
          return;
        it->second.versions.erase(version);
        if (it->second.versions.empty())
          routes.erase(it);
      },
  };
}

engine_actor spawn_engine(caf::actor_system& system, telemetry::metrics_ptr metrics,
                          engine_settings settings) {
  return system.spawn(engine_behavior, std::move(metrics), std::move(settings));
}

void stop_engine(const engine_actor& engine) {
  caf::anon_send_exit(engine, caf::exit_reason::user_shutdown);
}

} // namespace troupe
