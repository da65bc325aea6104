#include "troupe/actors/published_engine.hpp"

namespace troupe {

namespace {

constexpr size_t longest_id = 128;

caf::error forbidden() {
  return caf::make_error(
      ec::unauthorized,
      std::string{"a published engine takes requests only: load, unload and drain "
                  "it in the process where it runs"});
}

/// An id goes into the log, where a peer must not draw lines of its own.
void tidy(std::string& id) {
  std::erase_if(id, [](char c) { return c < 0x20 || c > 0x7e; });
  id.resize(std::min(id.size(), longest_id));
  if (id.empty())
    id = "remote";
}

/// Asks instead of delegating: whoever answers a peer can be addressed by it from then on.
template <class Answer, class... Ts>
caf::result<Answer> ask(published_engine_ptr self, Ts&&... xs) {
  auto promise = self->make_response_promise<Answer>();
  self->request(self->state.engine, caf::infinite, std::forward<Ts>(xs)...)
      .then([promise](Answer& answer) mutable { promise.deliver(std::move(answer)); },
            [promise](caf::error& why) mutable { promise.deliver(std::move(why)); });
  return promise;
}

} // namespace

engine_actor::behavior_type published_engine(published_engine_ptr self, engine_actor engine) {
  self->monitor(engine);
  self->set_down_handler([self](caf::down_msg& down) { self->quit(std::move(down.reason)); });
  // Nobody tells it to end but the engine: a peer may put any source into an exit message.
  self->set_exit_handler([](const caf::exit_msg&) {});
  self->state.engine = std::move(engine);
  return {
      [=](submit_atom, generation_request& request, const event_sink& sink) {
        tidy(request.id);
        return ask<request_actor>(self, submit_atom_v, std::move(request), sink);
      },
      [=](tokenize_request& request) { return ask<tokenize_answer>(self, std::move(request)); },
      [=](detokenize_request& request) { return ask<std::string>(self, std::move(request)); },
      [](load_atom, const model_spec&) -> caf::result<model_status> { return forbidden(); },
      [](unload_atom, const std::string&) -> caf::result<model_status> { return forbidden(); },
      [](unload_atom, const std::string&, const std::string&) -> caf::result<model_status> {
        return forbidden();
      },
      [](const worker_scaling&) -> caf::result<std::vector<model_status>> { return forbidden(); },
      [=](status_atom) { return ask<std::vector<model_status>>(self, status_atom_v); },
      [](drain_atom, uint32_t) -> caf::result<done_atom> { return forbidden(); },
      [](const model_route&) {},
      [](route_atom, const std::string&, const std::string&) {},
  };
}

engine_actor spawn_published_engine(caf::actor_system& system, const engine_actor& engine) {
  return system.spawn(published_engine, engine);
}

} // namespace troupe
