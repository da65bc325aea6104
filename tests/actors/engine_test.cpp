#include <catch2/catch.hpp>

#include "life.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

class engines : public test::life {};

} // namespace

TEST_CASE_METHOD(engines, "a request streams from the engine to its sink", "[actors][engine]") {
  start();
  auto seen = generate(request("Hello", 8));
  CHECK(seen->complete());
  CHECK(seen->terminals() == 1);
  REQUIRE(seen->prompts().size() == 1);
  CHECK(seen->prompts()[0].token_count == 5);
  REQUIRE(seen->tokens().size() == 8);
  REQUIRE(seen->ends().size() == 1);
  CHECK(seen->ends()[0].reason == finish_reason::length);
  CHECK(seen->ends()[0].generated_text == seen->text());
  CHECK(seen->text().size() == 8);
  CHECK(seen->batches.size() == 8); // One event for each token, the end with the last.
  CHECK(numbers().blocks_used.value() == 0);
  CHECK(numbers().generated_tokens.value() == 8);
}

TEST_CASE_METHOD(engines, "a collected answer comes in one batch with the streamed text",
                 "[actors][engine]") {
  start();
  auto streamed = generate(request("Hello", 8));
  auto r = request("Hello", 8);
  r.params.stream = false;
  auto collected = generate(r);
  CHECK(collected->batches.size() == 1);
  CHECK(collected->complete());
  REQUIRE(collected->ends().size() == 1);
  CHECK(collected->ends()[0].generated_text == streamed->text());
  CHECK(collected->tokens().size() == 8);
}

TEST_CASE_METHOD(engines, "the number of shards changes no token", "[actors][engine]") {
  start();
  auto one = generate(request("pipelined", 12))->text();
  for (uint32_t shards : {2u, 3u}) {
    spec.name = "m" + std::to_string(shards);
    spec.load.shards = shards;
    REQUIRE(load(spec));
    auto r = request("pipelined", 12);
    r.model = spec.name;
    CHECK(generate(r)->text() == one);
  }
}

TEST_CASE_METHOD(engines, "several models are told apart by name", "[actors][engine]") {
  start();
  CHECK(generate(request("only one", 2))->complete());
  spec.name = "other";
  REQUIRE(load(spec));
  auto nameless = generate(request("which?", 2));
  CHECK(is(nameless->failure(), ec::invalid_request));
  CHECK(text_of(nameless->failure()) == "Parameter model_name is required.");
  auto named = request("this one", 2);
  named.model = "other";
  CHECK(generate(named)->complete());
  named.model = "none";
  auto unknown = generate(named);
  CHECK(is(unknown->failure(), ec::model_not_found));
  CHECK(text_of(unknown->failure()) == "Model or workflow not found: none");
  CHECK(is(load(spec).error(), ec::name_taken));
  CHECK(status(0).name == "m");
  CHECK(status(1).name == "other");
}

TEST_CASE_METHOD(engines, "an engine without models says so", "[actors][engine]") {
  engine = spawn_engine(sys, metrics, settings);
  CHECK(is(generate(request("x", 1))->failure(), ec::model_not_found));
  CHECK(is(ask<tokenize_answer>(engine, tokenize_request{"m", {}}).error(), ec::model_not_found));
  CHECK(
      is(ask<model_status>(engine, unload_atom_v, std::string{"m"}).error(), ec::model_not_found));
  auto all = ask<std::vector<model_status>>(engine, status_atom_v);
  REQUIRE(all);
  CHECK(all->empty());
  CHECK(is(load({}).error(), ec::invalid_request)); // No name.
}

TEST_CASE_METHOD(engines, "the status tells what a model is", "[actors][engine]") {
  start();
  auto s = status();
  CHECK(s.state == model_state::ready);
  CHECK(s.load_progress == 1.0);
  CHECK(s.context == 512);
  CHECK(s.vocabulary == 259);
  CHECK(s.architecture == "FakeForCausalLM");
  CHECK(s.has_chat_template);
  CHECK(s.since_unix > 0);
  CHECK(s.queued == 0);
  CHECK(s.running == 0);
}

TEST_CASE_METHOD(engines, "text is encoded and decoded without generating", "[actors][engine]") {
  start();
  tokenize_request r;
  r.input.text = "abc";
  auto answer = ask<tokenize_answer>(engine, r);
  REQUIRE(answer);
  CHECK(answer->tokens == std::vector<int32_t>{'a', 'b', 'c'});
  CHECK(answer->max_model_len == 512);
  auto text = ask<std::string>(engine, detokenize_request{"m", {'x', 'y', 257}});
  REQUIRE(text);
  CHECK(*text == "xy<|im_end|>");
  CHECK(is(ask<std::string>(engine, detokenize_request{"m", {-1}}).error(), ec::invalid_request));
  CHECK(is(ask<std::string>(engine, detokenize_request{"m", {1 << 30}}).error(),
           ec::invalid_request));
  r.input.text.assign(100'000, 'x');
  CHECK(is(ask<tokenize_answer>(engine, r).error(), ec::prompt_too_long));
  r.input.kind = prompt_kind::chat;
  r.input.text = R"({"messages":[{"role":"user","content":"hi"}]})";
  answer = ask<tokenize_answer>(engine, r);
  REQUIRE(answer);
  text = ask<std::string>(engine, detokenize_request{"m", answer->tokens});
  REQUIRE(text);
  CHECK(*text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE_METHOD(engines, "models that do not fit together are refused before they load",
                 "[actors][engine]") {
  settings.memory_bytes = 1000 + 64 * 64 + 1000;
  start();
  auto made = model->made;
  spec.name = "second";
  auto refused = load(spec);
  REQUIRE(!refused);
  CHECK(is(refused.error(), ec::out_of_memory));
  CHECK(text_of(refused.error()).find("second") != std::string::npos);
  CHECK(model->made == made);
  CHECK(status(1).state == model_state::failed);
  CHECK(status(1).problem == text_of(refused.error()));
  REQUIRE(ask<model_status>(engine, unload_atom_v, std::string{"m"}));
  // What failed keeps its name for its status, but may be loaded anew.
  CHECK(load(spec));
}

TEST_CASE_METHOD(engines, "a model that cannot be loaded says why and stays listed",
                 "[actors][engine]") {
  engine = spawn_engine(sys, metrics, settings);
  SECTION("its folder is bad") {
    settings.factories.plan = [](const models::load_options&) -> caf::expected<models::model_plan> {
      return caf::make_error(ec::bad_model, std::string{"no config.json"});
    };
    stop_engine(engine);
    engine = spawn_engine(sys, metrics, settings);
    auto refused = load(spec);
    CHECK(is(refused.error(), ec::bad_model));
    CHECK(text_of(refused.error()) == "no config.json");
  }
  SECTION("its planning throws") {
    settings.factories.plan = [](const models::load_options&) -> caf::expected<models::model_plan> {
      throw std::runtime_error{"surprise"};
    };
    stop_engine(engine);
    engine = spawn_engine(sys, metrics, settings);
    auto refused = load(spec);
    CHECK(is(refused.error(), ec::bad_model));
    CHECK(text_of(refused.error()) == "surprise");
  }
  SECTION("a shard cannot load") {
    model->load_fault = [](uint32_t shard) {
      return shard == 1 ? caf::make_error(ec::out_of_memory, std::string{"full"}) : caf::error{};
    };
    spec.load.shards = 2;
    CHECK(is(load(spec).error(), ec::out_of_memory));
  }
  CHECK(status().state == model_state::failed);
  CHECK(!status().problem.empty());
  auto r = generate(request("x", 1));
  CHECK(is(r->failure(), ec::model_not_ready));
  CHECK(metrics->model("m")->ended(telemetry::outcome::refused).value() == 1);
  auto gone = ask<model_status>(engine, unload_atom_v, std::string{"m"});
  REQUIRE(gone);
  CHECK(is(generate(request("x", 1))->failure(), ec::model_not_found));
}

TEST_CASE_METHOD(engines, "loading ends at its timeout", "[actors][engine]") {
  spec.loading_timeout_ms = 1000;
  settings.factories.plan = [this](const models::load_options& options) {
    auto p = plan(model, options);
    p->stages.clear(); // No shard ever reports.
    return p;
  };
  engine = spawn_engine(sys, metrics, settings);
  caf::scoped_actor asker{sys};
  auto pending = asker->request(engine, caf::infinite, load_atom_v, spec);
  run();
  CHECK(status().state == model_state::loading);
  CHECK(is(generate(request("early", 1))->failure(), ec::model_not_ready));
  advance(1001ms);
  caf::error got;
  pending.receive([](const model_status&) {}, [&](caf::error& err) { got = std::move(err); });
  CHECK(is(got, ec::model_not_ready));
  CHECK(text_of(got).find("1000 ms") != std::string::npos);
}

TEST_CASE_METHOD(engines, "a drain ends queued requests and lets running ones finish",
                 "[actors][engine]") {
  spec.load.max_sequences = 1;
  start();
  auto running = put(request("first", 20));
  run_until([&] { return running->tokens().size() == 3; });
  auto queued = put(request("second", 20));
  run_until([&] { return queued->request != nullptr; });
  caf::scoped_actor asker{sys};
  auto drained = asker->request(engine, caf::infinite, drain_atom_v, uint32_t{30'000});
  run_until([&] { return !queued->batches.empty(); });
  CHECK(is(queued->failure(), ec::shutting_down));
  CHECK(!running->complete());
  auto late = generate(request("late", 1));
  CHECK(is(late->failure(), ec::shutting_down));
  CHECK(running->complete());
  CHECK(running->tokens().size() == 20);
  bool done = false;
  drained.receive([&](done_atom) { done = true; }, [](const caf::error&) {});
  CHECK(done);
  CHECK(numbers().blocks_used.value() == 0);
}

TEST_CASE_METHOD(engines, "what runs longer than the drain's time ends with an error",
                 "[actors][engine]") {
  start();
  auto running = put(request("first", 200), false);
  run_until([&] { return running->tokens().size() == 3; });
  caf::scoped_actor asker{sys};
  auto drained = asker->request(engine, caf::infinite, drain_atom_v, uint32_t{50});
  run_until([&] { return running->tokens().size() == 6; });
  REQUIRE(!running->complete());
  // Not a message more runs before the time is up.
  auto& coordinator = dynamic_cast<caf::scheduler::test_coordinator&>(sys.scheduler());
  coordinator.advance_time(51ms);
  run();
  CHECK(is(running->failure(), ec::shutting_down));
  CHECK(running->terminals() == 1);
  bool done = false;
  drained.receive([&](done_atom) { done = true; }, [](const caf::error&) {});
  CHECK(done);
  CHECK(numbers().blocks_used.value() == 0);
}

TEST_CASE_METHOD(engines, "an engine that is stopped ends its requests and all its actors",
                 "[actors][engine]") {
  start();
  auto running = put(request("first", 200));
  run_until([&] { return running->tokens().size() == 3; });
  running->request = nullptr;
  stop_engine(engine);
  run();
  CHECK(is(running->failure(), ec::shutting_down));
  sinks.clear();
  engine = nullptr;
  CHECK(sys.registry().running() == 0);
}

TEST_CASE_METHOD(engines, "an engine that nobody holds ends by itself", "[actors][engine]") {
  start();
  engine = nullptr;
  run();
  CHECK(sys.registry().running() == 0);
}

TEST_CASE_METHOD(engines, "an unloaded model finishes its requests first", "[actors][engine]") {
  start();
  auto running = put(request("first", 10));
  run_until([&] { return running->tokens().size() == 3; });
  auto status = ask<model_status>(engine, unload_atom_v, std::string{"m"});
  REQUIRE(status);
  CHECK(running->complete());
  CHECK(running->tokens().size() == 10);
  CHECK(is(generate(request("x", 1))->failure(), ec::model_not_found));
  CHECK(load(spec));
}
