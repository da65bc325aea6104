#include <catch2/catch.hpp>

#include <future>

#include <caf/io/all.hpp>

#include "life.hpp"

using namespace troupe;

namespace {

struct networked : caf::actor_system_config {
  networked() {
    load<caf::io::middleman>();
    add_message_types<caf::id_block::troupe>();
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 2);
  }
};

/// Gathers a stream's text and tells when it is over.
event_sink::behavior_type gathering_sink(event_sink::pointer self,
                                         std::shared_ptr<std::string> text,
                                         std::shared_ptr<std::promise<event_batch>> last) {
  return {
      [=](event_batch& batch) {
        for (const auto& token : batch.tokens)
          *text += token.token.text;
        if (auto sender = caf::actor_cast<request_actor>(self->current_sender()))
          self->send(sender, credit_atom_v, batch.weight);
        if (batch.complete || batch.failure) {
          last->set_value(std::move(batch));
          self->quit();
        }
      },
  };
}

} // namespace

TEST_CASE("an engine that was published serves a client of another process's actor system",
          "[actors][engine]") {
  auto model = std::make_shared<test::fake_model>();
  engine_settings settings{model_factories{}, 0};
  settings.factories.plan = [=](const models::load_options& options) {
    return test::life::plan(model, options);
  };
  settings.factories.text = [](const model_spec&) -> caf::expected<text_tools> {
    return text_tools{byte_tokenizer(), byte_chat_template(), false};
  };
  networked server_config, client_config;
  caf::actor_system server{server_config};
  auto engine = spawn_engine(server, std::make_shared<telemetry::metrics>(), settings);
  auto port = server.middleman().publish(engine, 0, "127.0.0.1");
  REQUIRE(port);
  std::string said;
  {
    caf::actor_system client{client_config};
    auto remote = client.middleman().remote_actor<engine_actor>("127.0.0.1", *port);
    REQUIRE(remote);
    caf::scoped_actor self{client};
    model_spec spec;
    spec.name = "m";
    spec.load.shards = 2;
    bool loaded = false;
    self->request(*remote, std::chrono::seconds{30}, load_atom_v, spec)
        .receive([&](const model_status& s) { loaded = s.state == model_state::ready; },
                 [](const caf::error&) {});
    REQUIRE(loaded);
    auto text = std::make_shared<std::string>();
    auto last = std::make_shared<std::promise<event_batch>>();
    auto over = last->get_future();
    auto sink = client.spawn(gathering_sink, text, last);
    caf::error refusal;
    self->request(*remote, std::chrono::seconds{30}, submit_atom_v,
                  test::life::request("from afar", 20), sink)
        .receive([](const request_actor&) {}, [&](caf::error& err) { refusal = std::move(err); });
    REQUIRE(!refusal);
    REQUIRE(over.wait_for(std::chrono::seconds{30}) == std::future_status::ready);
    auto end = over.get();
    CHECK(end.complete);
    REQUIRE(end.ends.size() == 1);
    CHECK(end.ends[0].generated_text == *text);
    CHECK(text->size() == 20);

    // An error keeps its code and its sentence across the border.
    caf::error unknown;
    auto r = test::life::request("x", 1);
    r.model = "nobody";
    self->request(*remote, std::chrono::seconds{30}, submit_atom_v, r, sink)
        .receive([](const request_actor&) {}, [&](caf::error& err) { unknown = std::move(err); });
    CHECK(code_of(unknown) == ec::model_not_found);
    CHECK(text_of(unknown) == "Model or workflow not found: nobody");
  }
  stop_engine(engine);
}
