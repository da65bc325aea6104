// A CAF application with messages, options and an actor of its own that runs two models in its
// actor system, asks both, cancels an answer and offers the same engine over HTTP. See
// docs/embedding.md.
#include <iostream>

#include <caf/all.hpp>
#include <troupe/runtime/embed.hpp>

struct question { // The application's own message.
  std::string model, text;
  size_t enough = 0; // Tokens after which no more are wanted; 0: all are.
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, question& x) {
  return f(caf::meta::type_name("question"), x.model, x.text, x.enough);
}

CAF_BEGIN_TYPE_ID_BLOCK(host, caf::first_custom_type_id)
CAF_ADD_TYPE_ID(host, (question))
CAF_END_TYPE_ID_BLOCK(host)

struct configuration : caf::actor_system_config {
  std::string folder;
  configuration() {
    add_message_types<caf::id_block::host>();
    opt_group{custom_options_, "global"}.add(folder, "folder,f", "model folder (default: a dummy)");
    troupe::configure(*this);
  }
};

struct reader_state {
  caf::typed_response_promise<std::string> answer;
  std::string text;
  size_t tokens = 0, enough = 0;
};

// Answers one question. It is the sink of its request: tokens come to it as messages.
caf::behavior reader(caf::stateful_actor<reader_state>* self, troupe::engine_actor engine) {
  auto end = [self](auto with) { self->state.answer.deliver(std::move(with)), self->quit(); };
  return {
      [=](const question& asked) {
        self->state.enough = asked.enough;
        self->state.answer = self->make_response_promise<std::string>();
        troupe::generation_request request{.model = asked.model, .input = {.text = asked.text}};
        request.params.max_new_tokens = asked.enough > 0 ? -1 : 16;
        request.params.stream = true;
        self->request(engine, caf::infinite, troupe::submit_atom_v, request, troupe::sink_of(self))
            .then([](const troupe::request_actor&) {}, [=](caf::error& refusal) { end(refusal); });
        return self->state.answer;
      },
      [=](const troupe::event_batch& events) {
        for (const auto& event : events.tokens) {
          self->state.text += event.token.text;
          if (++self->state.tokens == self->state.enough)
            self->send(troupe::request_of(self), troupe::cancel_atom_v);
        }
        troupe::grant(self, events);
        if (events.complete || troupe::code_of(events.failure) == troupe::ec::cancelled)
          end(std::to_string(self->state.tokens) + " tokens: " + self->state.text);
        else if (events.failure)
          end(events.failure);
      }};
}

// The application's actor, which now has somebody to ask. It hears how ever the engine ends.
caf::behavior assistant(caf::event_based_actor* self, troupe::engine_actor engine) {
  self->monitor(engine);
  self->set_down_handler([self](const caf::down_msg& down) {
    std::cout << "the engine has ended: " << caf::to_string(down.reason) << std::endl;
    self->quit();
  });
  return {[=](question& asked) { return self->delegate(self->spawn(reader, engine), asked); }};
}

void caf_main(caf::actor_system& system, const configuration& config) {
  auto metrics = std::make_shared<troupe::telemetry::metrics>();
  auto engine = troupe::start_engine(system, metrics);
  auto failed = [](const caf::error& why) { std::cout << troupe::text_of(why) << std::endl; };
  for (auto name : {"chat", "draft"})
    if (auto ready = troupe::load_model(system, engine, name, config.folder); !ready)
      failed(ready.error());
  caf::scoped_actor self{system};
  auto helper = self->spawn(assistant, engine);
  for (auto asked : {question{"chat", "The capital of France is"}, question{"draft", "Once", 5}})
    self->request(helper, caf::infinite, asked)
        .receive([](const std::string& text) { std::cout << text << std::endl; }, failed);
  if (auto front = troupe::http::server::start(system, engine, metrics, {.port = 0})) {
    std::cout << "http://127.0.0.1:" << (*front)->port() << " until Enter is pressed" << std::endl;
    std::cin.get();
  }
  troupe::stop_engine(engine);
  self->wait_for(helper);
}

CAF_MAIN()
