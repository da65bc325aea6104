// A CAF application with an actor of its own that runs a model beside it: loads a folder (or the dummy
// model), submits one prompt and prints the tokens as they come.
#include <cstdio>

#include <caf/all.hpp>
#include <troupe/runtime/embed.hpp>

namespace {

struct configuration : caf::actor_system_config {
  configuration() { troupe::configure(*this); }
};

/// Prints a request's events and gives credit back, so that the stream goes on.
troupe::event_sink::behavior_type printer(troupe::event_sink::pointer self) {
  return {[self](const troupe::event_batch& events) {
    for (const auto& event : events.tokens)
      std::printf("%s", event.token.text.c_str());
    std::fflush(stdout);
    if (events.failure)
      std::printf("\nfailed: %s", troupe::text_of(events.failure).c_str());
    if (events.complete || events.failure) {
      std::printf("\n");
      return self->quit();
    }
    self->send(caf::actor_cast<troupe::request_actor>(self->current_sender()),
               troupe::credit_atom_v, events.weight);
  }};
}

} // namespace

int main(int argc, char** argv) {
  configuration config;
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  auto engine = troupe::start_engine(system);

  troupe::model_spec spec;
  spec.name = "chat";
  spec.load.dummy = argc < 2;
  spec.load.folder = argc < 2 ? "" : argv[1];
  int exit_code = 1;
  self->request(engine, caf::infinite, troupe::load_atom_v, spec)
      .receive(
          [&](const troupe::model_status& ready) {
            std::printf("%s: %u tokens of context\n", ready.name.c_str(), ready.context);
            exit_code = 0;
          },
          [](const caf::error& reason) { std::printf("%s\n", troupe::text_of(reason).c_str()); });

  if (exit_code == 0) {
    troupe::generation_request request;
    request.id = "example-1";
    request.input.text = argc < 3 ? "The capital of France is" : argv[2];
    request.params.max_new_tokens = 16;
    request.params.stream = true;
    auto sink = system.spawn(printer);
    self->monitor(sink);
    self->request(engine, caf::infinite, troupe::submit_atom_v, request, sink)
        .receive([](const troupe::request_actor&) {},
                 [&](const caf::error& reason) {
                   std::printf("%s\n", troupe::text_of(reason).c_str());
                   caf::anon_send_exit(sink, caf::exit_reason::user_shutdown);
                 });
    self->receive([](const caf::down_msg&) {});
  }
  troupe::stop_engine(engine);
  return exit_code;
}
