// Streams tokens from the engine of another process, which `troupe serve --publish-port` offers, or
// a host application with troupe::publish_engine. See docs/embedding.md.
#include <cstdlib>
#include <iostream>

#include <caf/all.hpp>
#include <troupe/runtime/embed.hpp>

struct configuration : caf::actor_system_config {
  std::string address = "127.0.0.1", model, prompt = "The capital of France is";
  uint16_t port = 0;
  int64_t tokens = 32;
  configuration() {
    opt_group{custom_options_, "global"}
        .add(address, "address,a", "where the engine is published")
        .add(port, "port,p", "the port of troupe serve --publish-port")
        .add(model, "model,m", "name of the model; needed only where there are several")
        .add(prompt, "prompt,t", "what the model continues")
        .add(tokens, "tokens,n", "most tokens to generate");
    troupe::configure(*this);
    troupe::configure_network(*this);
  }
};

// The sink of the request, in this process; prints what comes. Ends with an error when the request
// failed, and also when the server or the network dies: it monitors the engine.
caf::behavior printer(caf::event_based_actor* self, troupe::engine_actor engine,
                      troupe::generation_request request) {
  self->monitor(engine);
  self->set_down_handler([self](const caf::down_msg& down) {
    self->quit(caf::make_error(troupe::ec::unreachable,
                               "the server is gone: " + caf::to_string(down.reason)));
  });
  self->request(engine, caf::infinite, troupe::submit_atom_v, std::move(request),
                troupe::sink_of(self))
      .then([](const troupe::request_actor&) {},
            [self](caf::error& refusal) { self->quit(refusal); });
  return {[self](const troupe::event_batch& events) {
    for (const auto& event : events.tokens)
      std::cout << event.token.text << std::flush;
    troupe::grant(self, events);
    if (events.complete || events.failure)
      self->quit(events.failure);
  }};
}

int run(caf::actor_system& system, const configuration& config) {
  auto fail = [](const caf::error& why) {
    std::cerr << "\nremote_client: " << troupe::to_string(troupe::code_of(why)) << ": "
              << troupe::text_of(why) << std::endl;
    return EXIT_FAILURE;
  };
  auto engine = troupe::remote_engine(system, config.address, config.port);
  if (!engine)
    return fail(engine.error());
  troupe::generation_request request{.model = config.model, .input = {.text = config.prompt}};
  request.params.max_new_tokens = config.tokens;
  request.params.stream = true;
  caf::scoped_actor self{system};
  auto sink = self->spawn<caf::monitored>(printer, *engine, std::move(request));
  caf::error how;
  self->receive([&](caf::down_msg& down) { how = std::move(down.reason); });
  if (how)
    return fail(how);
  std::cout << std::endl;
  return EXIT_SUCCESS;
}

int main(int argc, char** argv) {
  configuration config;
  if (auto wrong = config.parse(argc, argv)) {
    std::cerr << config.render(wrong) << std::endl;
    return EXIT_FAILURE;
  }
  if (config.cli_helptext_printed)
    return EXIT_SUCCESS;
  caf::actor_system system{config};
  return run(system, config);
}
