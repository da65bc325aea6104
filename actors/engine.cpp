#include "troupe/actors/engine.hpp"

#include "troupe/actors/supervisor.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

/// The model of that name; an empty name means the only one.
caf::expected<model_actor> find_model(const engine_state& state, const std::string& name) {
  if (name.empty() && state.routes.size() != 1)
    return state.routes.empty()
               ? caf::make_error(ec::model_not_found, std::string{"no model is loaded"})
               : caf::make_error(ec::invalid_request,
                                 std::string{"Parameter model_name is required."});
  auto it = name.empty() ? state.routes.begin() : state.routes.find(name);
  if (it == state.routes.end())
    return caf::make_error(ec::model_not_found, "Model or workflow not found: " + name);
  if (!it->second)
    return caf::make_error(ec::model_not_ready, "Model is not ready: " + it->first +
                                                    " (it failed; its status tells why)");
  return it->second;
}

/// Counts a refusal that the model cannot count itself, because it is not asked.
void count_refused(const engine_state& state, const std::string& name) {
  bool only = name.empty() && state.routes.size() == 1;
  auto it = only ? state.routes.begin() : state.routes.find(name);
  if (it != state.routes.end())
    state.metrics->model(it->first)->ended(telemetry::outcome::refused).add();
}

/// Passes a request on to its model, which answers the sender itself.
template <class Answer, class Request, class... Ts>
caf::result<Answer> route(engine_ptr self, Request& request, Ts&&... xs) {
  auto model = find_model(self->state, request.model);
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
        if (self->state.draining) {
          count_refused(self->state, request.model);
          return caf::make_error(ec::shutting_down,
                                 std::string{"the server is shutting down: ask another one"});
        }
        if (!sink)
          return caf::make_error(ec::invalid_request, std::string{"a request needs a sink"});
        if (auto model = find_model(self->state, request.model);
            !model && code_of(model.error()) == ec::model_not_ready)
          count_refused(self->state, request.model);
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
      [=](status_atom) {
        handled();
        return ask_supervisor(self, status_atom_v);
      },
      [=](drain_atom, uint32_t wait_ms) {
        handled();
        self->state.draining = true;
        return ask_supervisor(self, drain_atom_v, wait_ms);
      },
      [=](route_atom, const std::string& name, const model_actor& model) {
        handled();
        self->state.routes[name] = model;
      },
      [=](route_atom, const std::string& name) {
        handled();
        self->state.routes.erase(name);
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
