#include "troupe/http/relay.hpp"

#include <utility>

#include "troupe/config/error.hpp"
#include "troupe/http/dialects/tokenize.hpp"
#include "troupe/http/errors.hpp"
#include "troupe/http/registration.hpp"

namespace troupe::http {

namespace {

using telemetry::actor_kind;

void deliver(relay_ptr self, event_batch&& events) {
  auto& state = self->state;
  if (state.ended)
    return;
  state.ended = events.complete || events.failure;
  state.port->push(state.part, std::move(events));
  if (state.ended)
    self->quit();
}

void fail(relay_ptr self, caf::error why) {
  if (self->state.ended)
    return self->quit();
  event_batch events;
  events.failure = code_of(why) == ec::internal && why.category() != caf::atom("troupe")
                       ? caf::make_error(ec::internal, "the engine is gone: " + text_of(why))
                       : std::move(why);
  deliver(self, std::move(events));
}

void admitted(relay_ptr self, const request_actor& request) {
  auto& state = self->state;
  state.request = request;
  self->monitor(request);
  if (state.ended)
    return self->send(request, cancel_atom_v);
  if (state.early_credit > 0)
    self->send(request, credit_atom_v, std::exchange(state.early_credit, 0));
}

void submit(relay_ptr self, const engine_actor& engine, generation_request request) {
  if (self->state.metrics)
    self->state.metrics->sent(actor_kind::engine);
  self->request(engine, caf::infinite, submit_atom_v, std::move(request), event_sink{self})
      .then([self](const request_actor& request) { admitted(self, request); },
            [self](caf::error& why) { fail(self, std::move(why)); });
}

} // namespace

relay::relay(caf::actor_config& config, engine_actor engine, generation_request request,
             std::shared_ptr<event_port> port, uint32_t part, telemetry::metrics_ptr metrics)
    : super(config), port_(std::move(port)), part_(part), metrics_(std::move(metrics)),
      engine_(std::move(engine)), request_(std::move(request)) {
  state.port = port_;
  state.part = part_;
  state.metrics = metrics_;
}

void relay::enqueue(caf::mailbox_element_ptr message, caf::execution_unit* by) {
  auto& content = message->content();
  if (content.match_elements<event_batch>() && !content.shared()) {
    auto& events = content.get_mutable_as<event_batch>(0);
    if (!events.complete && !events.failure) {
      if (metrics_)
        metrics_->crossed(actor_kind::sink);
      port_->push(part_, std::move(events));
      return;
    }
  }
  super::enqueue(std::move(message), by);
}

relay::behavior_type relay::make_behavior() {
  set_down_handler([this](const caf::down_msg& down) {
    fail(this, caf::make_error(ec::internal, "the request ended without an answer: " +
                                                 caf::to_string(down.reason)));
  });
  submit(this, std::exchange(engine_, nullptr), std::move(request_));
  return {
      [this](event_batch& events) {
        if (state.metrics)
          state.metrics->crossed(actor_kind::sink);
        deliver(this, std::move(events));
      },
      [this](credit_atom, uint32_t weight) {
        if (state.request)
          send(state.request, credit_atom_v, weight);
        else
          state.early_credit += weight;
      },
      [this](cancel_atom) {
        // It stays until its request is gone; what still comes is dropped.
        state.ended = true;
        state.port.reset();
        if (state.request)
          send(state.request, cancel_atom_v);
      },
  };
}

namespace {

class relay_ticket final : public engine_ticket {
public:
  explicit relay_ticket(relay_actor relay) : relay_(std::move(relay)) {}
  void credit(uint32_t weight) override { caf::anon_send(relay_, credit_atom_v, weight); }
  void cancel() override { caf::anon_send(relay_, cancel_atom_v); }

private:
  relay_actor relay_;
};

using answer_function = std::function<void(reply)>;

/// Asks once, answers once, and ends.
void inquirer(caf::event_based_actor* self, const engine_actor& engine, engine_query query,
              std::shared_ptr<const front_state> state, answer_function answer) {
  auto failed = [=, style = query.errors](std::string model) {
    return
        [=](caf::error& why) { answer(error_reply(style, state->settings.dialect, model, why)); };
  };
  if (auto* view = std::get_if<status_view>(&query.what)) {
    self->request(engine, caf::infinite, status_atom_v)
        .then(
            [=, view = std::move(*view)](std::vector<model_status>& models) {
              if (state->settings.keep_ready)
                keep_ready(models);
              answer(view(state->models.complete(std::move(models))));
            },
            failed({}));
    return;
  }
  if (auto* given = std::get_if<tokenize_request>(&query.what))
    self->request(engine, caf::infinite, *given)
        .then([=](const tokenize_answer& x) { answer(tokenize_reply(x)); }, failed(given->model));
  else if (auto* given = std::get_if<detokenize_request>(&query.what))
    self->request(engine, caf::infinite, *given)
        .then([=](const std::string& text) { answer(detokenize_reply(text)); },
              failed(given->model));
  else if (auto* given = std::get_if<worker_scaling>(&query.what))
    self->request(engine, caf::infinite, *given)
        .then(
            [=, wanted = *given](const std::vector<model_status>& models) {
              answer(scaled_reply(wanted, models));
            },
            [=, wanted = *given](const caf::error& why) {
              // The engine has not heard yet of what is being prepared.
              auto early = code_of(why) == ec::model_not_found && state->models.knows(wanted.model);
              answer(management_error(
                  wanted.model, wanted.version,
                  early ? caf::make_error(ec::model_not_ready,
                                          "Model or workflow is not ready: " + wanted.model)
                        : why));
            });
}

/// Answers at once or when the model has loaded, as the request says.
void answer_registration(caf::actor_system& system, const engine_actor& engine,
                         const std::shared_ptr<front_state>& state, registration_request asked,
                         const answer_function& answer) {
  auto wanted = asked.wanted;
  auto refused = [=, name = wanted.name, version = wanted.version](const caf::error& why) {
    answer(management_error(name, version, why));
  };
  if (!asked.synchronous) {
    auto taken = register_model(system, engine, state, std::move(wanted), on_failure::list,
                                [](const caf::expected<model_status>&) {});
    return taken ? refused(taken) : answer(registered_reply(asked));
  }
  auto over = [=, asked = std::move(asked)](const caf::expected<model_status>& status) {
    if (status)
      answer(registered_reply(asked));
    else
      refused(status.error());
  };
  if (auto taken = register_model(system, engine, state, std::move(wanted), on_failure::forget,
                                  std::move(over)))
    refused(taken);
}

/// A driver takes its time while a model is being loaded, so it is asked on a thread of its own.
void answer_metrics(caf::actor_system& system, std::shared_ptr<front_state> state,
                    metrics_query query, answer_function answer) {
  system.spawn<caf::detached>([state = std::move(state), query = std::move(query),
                               answer = std::move(answer)](caf::event_based_actor*) {
    answer(metrics_reply(*state, state->settings.ask_device_memory(), query.only));
  });
}

class actor_link final : public engine_link {
public:
  actor_link(caf::actor_system& system, engine_actor engine, std::shared_ptr<front_state> state)
      : system_(system), engine_(std::move(engine)), state_(std::move(state)) {}

  /// What is being fetched for nobody would hold the process up.
  ~actor_link() override { state_->models.stop(); }

  std::unique_ptr<engine_ticket> submit(generation_request request,
                                        std::shared_ptr<event_port> port, uint32_t part) override {
    return std::make_unique<relay_ticket>(
        system_.spawn<relay>(engine_, std::move(request), std::move(port), part, state_->metrics));
  }

  void ask(engine_query query, answer_function answer) override {
    if (auto* asked = std::get_if<registration_request>(&query.what))
      return answer_registration(system_, engine_, state_, std::move(*asked), answer);
    if (auto* wanted = std::get_if<metrics_query>(&query.what))
      return answer_metrics(system_, state_, std::move(*wanted), std::move(answer));
    if (auto* wanted = std::get_if<unregistration_request>(&query.what))
      return unregister_model(
          system_, engine_, state_, *wanted, [answer, wanted = *wanted](const caf::error& why) {
            answer(why ? management_error(wanted.model, wanted.version.value_or(""), why)
                       : unregistered_reply(wanted.model));
          });
    if (state_->metrics)
      state_->metrics->sent(actor_kind::engine);
    system_.spawn([engine = engine_, query = std::move(query), state = state_,
                   answer = std::move(answer)](caf::event_based_actor* self) {
      inquirer(self, engine, query, state, answer);
    });
  }

private:
  caf::actor_system& system_;
  engine_actor engine_;
  std::shared_ptr<front_state> state_;
};

} // namespace

std::unique_ptr<engine_link> link_engine(caf::actor_system& system, engine_actor engine,
                                         std::shared_ptr<front_state> state) {
  return std::make_unique<actor_link>(system, std::move(engine), std::move(state));
}

} // namespace troupe::http
