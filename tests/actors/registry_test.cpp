#include <catch2/catch.hpp>

#include "life.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

class registry : public test::life {
public:
  caf::expected<model_status> load_version(std::string version, bool at_startup = true) {
    auto one = spec;
    one.registered.version = std::move(version);
    one.registered.at_startup = at_startup;
    return load(one);
  }

  caf::expected<model_status> unload(std::string name) {
    return ask<model_status>(engine, unload_atom_v, std::move(name));
  }
  caf::expected<model_status> unload(std::string name, std::string version) {
    return ask<model_status>(engine, unload_atom_v, std::move(name), std::move(version));
  }

  caf::expected<std::vector<model_status>> scale(int64_t min, int64_t max,
                                                 std::string version = "") {
    return ask<std::vector<model_status>>(
        engine, worker_scaling{spec.name, std::move(version), min, max, {}});
  }

  static generation_request to(std::string model, std::string version = "") {
    auto r = request("which?", 2);
    r.model = std::move(model);
    r.version = std::move(version);
    return r;
  }

  uint64_t served(const std::string& label) {
    return metrics->model(label)->generated_tokens.value() / 2;
  }
};

} // namespace

TEST_CASE_METHOD(registry, "versions of a model take turns unless one is named",
                 "[actors][registry]") {
  engine = spawn_engine(sys, metrics, settings);
  REQUIRE(load_version("1"));
  REQUIRE(load_version("2"));
  for (int i = 0; i < 4; ++i)
    CHECK(generate(to("m"))->complete());
  CHECK(served("m:1") == 2);
  CHECK(served("m:2") == 2);
  CHECK(generate(to("m", "2"))->complete());
  CHECK(generate(to("", "2"))->complete());
  CHECK(served("m:2") == 4);
  auto unknown = generate(to("m", "3"));
  CHECK(is(unknown->failure(), ec::model_not_found));
  CHECK(text_of(unknown->failure()) == "Model or workflow not found: m:3");
  CHECK(is(load_version("2").error(), ec::name_taken));
  CHECK(status(0).registered.version == "1");
  CHECK(status(1).registered.version == "2");
}

TEST_CASE_METHOD(registry, "a version that is not ready is passed over while another one is",
                 "[actors][registry]") {
  start(); // Without a version.
  model->load_fault = [](uint32_t) { return caf::make_error(ec::bad_model, std::string{"no"}); };
  CHECK(is(load_version("broken").error(), ec::bad_model));
  for (int i = 0; i < 3; ++i)
    CHECK(generate(to("m"))->complete());
  CHECK(is(generate(to("m", "broken"))->failure(), ec::model_not_ready));
  CHECK(metrics->model("m:broken")->loading_errors.value() == 1);
  CHECK(metrics->model("m:broken")->ended(telemetry::outcome::refused).value() == 1);
}

TEST_CASE_METHOD(registry, "a request without a name goes to the only start-up model",
                 "[actors][registry]") {
  start();
  auto later = spec;
  later.name = "later";
  later.registered.at_startup = false;
  REQUIRE(load(later));
  CHECK(generate(to(""))->complete());
  CHECK(served("m") == 1);
  REQUIRE(load_version("2")); // One name still.
  CHECK(generate(to(""))->complete());
  REQUIRE(unload("m"));
  auto none = generate(to(""));
  CHECK(is(none->failure(), ec::invalid_request));
  CHECK(text_of(none->failure()) == "Parameter model_name is required.");
  CHECK(generate(to("later"))->complete());
}

TEST_CASE_METHOD(registry, "a version leaves alone, a name with all of its versions",
                 "[actors][registry]") {
  start();
  REQUIRE(load_version("1"));
  REQUIRE(load_version("2"));
  REQUIRE(unload("m", "")); // The one without a version.
  CHECK(generate(to("m", "1"))->complete());
  CHECK(status(0).registered.version == "1");
  REQUIRE(unload("m", "1"));
  CHECK(is(unload("m", "1").error(), ec::model_not_found));
  REQUIRE(load_version("3"));
  REQUIRE(unload("m"));
  CHECK(is(unload("m").error(), ec::model_not_found));
  auto all = ask<std::vector<model_status>>(engine, status_atom_v);
  REQUIRE(all);
  CHECK(all->empty());
  for (const auto& family : metrics->snapshot())
    for (const auto& sample : family.samples)
      for (const auto& label : sample.labels)
        CHECK(label.name != "model"); // Nothing is shown of what is gone.
}

TEST_CASE_METHOD(registry, "a model that is unloaded while a stream runs finishes it first",
                 "[actors][registry]") {
  start();
  auto running = put(request("first", 12));
  run_until([&] { return running->tokens().size() == 3; });
  caf::scoped_actor asker{sys};
  auto pending = asker->request(engine, caf::infinite, unload_atom_v, std::string{"m"});
  run_until([&] { return running->tokens().size() == 4; });
  CHECK(is(generate(to("m"))->failure(), ec::shutting_down));
  run();
  CHECK(running->complete());
  CHECK(running->tokens().size() == 12);
  bool gone = false;
  pending.receive([&](const model_status&) { gone = true; }, [](const caf::error&) {});
  CHECK(gone);
}

TEST_CASE_METHOD(registry, "unloading a model that loads ends the loading", "[actors][registry]") {
  engine = spawn_engine(sys, metrics, settings);
  caf::scoped_actor asker{sys};
  auto loading = asker->request(engine, caf::infinite, load_atom_v, spec);
  caf::scoped_actor other{sys};
  auto leaving = other->request(engine, caf::infinite, unload_atom_v, std::string{"m"});
  auto again = asker->request(engine, caf::infinite, load_atom_v, spec);
  run();
  caf::error ended;
  loading.receive([](const model_status&) {}, [&](caf::error& err) { ended = std::move(err); });
  CHECK(is(ended, ec::cancelled));
  bool gone = false;
  leaving.receive([&](const model_status&) { gone = true; }, [](const caf::error&) {});
  CHECK(gone);
  caf::error refused; // The name is taken until the first one is gone.
  again.receive([](const model_status&) {}, [&](caf::error& err) { refused = std::move(err); });
  CHECK(is(refused, ec::name_taken));
  REQUIRE(load(spec));
  CHECK(generate(to("m"))->complete());
}

TEST_CASE_METHOD(registry, "of two registrations of one name the first one wins",
                 "[actors][registry]") {
  engine = spawn_engine(sys, metrics, settings);
  caf::scoped_actor asker{sys};
  auto first = asker->request(engine, caf::infinite, load_atom_v, spec);
  auto second = asker->request(engine, caf::infinite, load_atom_v, spec);
  run();
  bool loaded = false;
  first.receive([&](const model_status& s) { loaded = s.state == model_state::ready; },
                [](const caf::error&) {});
  CHECK(loaded);
  caf::error refused;
  second.receive([](const model_status&) {}, [&](caf::error& err) { refused = std::move(err); });
  CHECK(is(refused, ec::name_taken));
}

TEST_CASE_METHOD(registry, "scaling changes the workers that are shown", "[actors][registry]") {
  start();
  REQUIRE(status().groups.size() == 1);
  CHECK(status().groups[0].device == -1);
  REQUIRE(status().groups[0].workers.size() == 1);
  CHECK(status().groups[0].workers[0].id == 1);
  CHECK(status().groups[0].workers[0].since_ms > 1'600'000'000'000);
  auto more = scale(3, 4);
  REQUIRE(more);
  REQUIRE(more->size() == 1);
  CHECK(more->front().registered.min_workers == 3);
  CHECK(more->front().registered.max_workers == 4);
  CHECK(more->front().groups[0].workers.size() == 3);
  auto cut = scale(-1, 2); // The minimum is cut to the maximum.
  REQUIRE(cut);
  CHECK(cut->front().registered.min_workers == 2);
  CHECK(cut->front().groups[0].workers.back().id == 2);
  auto again = scale(9, 3);
  REQUIRE(again);
  CHECK(again->front().groups[0].workers.back().id == 4); // Ids are not used again.
  CHECK(is(scale(1, 1, "none").error(), ec::model_not_found));
}

TEST_CASE_METHOD(registry, "a model without workers refuses requests and holds no memory",
                 "[actors][registry]") {
  settings.memory_bytes = 1000 + 64 * 64 + 500;
  start();
  auto running = put(request("first", 6));
  run_until([&] { return running->tokens().size() == 2; });
  auto none = scale(-1, 0);
  REQUIRE(none);
  CHECK(running->complete());
  CHECK(running->tokens().size() == 6);
  CHECK(none->front().state == model_state::stopped);
  CHECK(none->front().groups[0].workers.empty());
  auto refused = generate(to("m"));
  CHECK(is(refused->failure(), ec::no_workers));
  CHECK(text_of(refused->failure()) == "All model workers has been shutdown: m");
  CHECK(is(load(spec).error(), ec::name_taken)); // It is registered still.
  auto other = spec;
  other.name = "other"; // It takes the place that was given back,
  REQUIRE(load(other));
  CHECK(is(scale(1, 1).error(), ec::out_of_memory)); // so the first does not fit any more
  REQUIRE(unload("other"));
  CHECK(is(scale(1, 1).error(), ec::model_not_ready)); // and has failed.
  REQUIRE(load(spec));
  CHECK(generate(to("m"))->complete());
}

TEST_CASE_METHOD(registry, "a model scaled up from nothing serves again", "[actors][registry]") {
  start();
  REQUIRE(scale(0, 0));
  REQUIRE(scale(-1, 0)); // Once more changes nothing.
  auto back = scale(-1, 1);
  REQUIRE(back);
  CHECK(back->front().state == model_state::ready);
  CHECK(back->front().groups[0].workers.size() == 1);
  CHECK(generate(to("m"))->complete());
  REQUIRE(scale(0, 0));
  REQUIRE(unload("m"));
  CHECK(is(scale(1, 1).error(), ec::model_not_found));
}

TEST_CASE_METHOD(registry, "only a model that is ready can be scaled", "[actors][registry]") {
  engine = spawn_engine(sys, metrics, settings);
  model->load_fault = [](uint32_t) { return caf::make_error(ec::bad_model, std::string{"no"}); };
  REQUIRE(!load(spec));
  auto refused = scale(1, 2);
  CHECK(is(refused.error(), ec::model_not_ready));
  CHECK(text_of(refused.error()) == "Model or workflow is not ready: m");
}

TEST_CASE_METHOD(registry, "memory that is to stay free refuses a model that would take it",
                 "[actors][registry]") {
  settings.memory_bytes = 10'000;
  engine = spawn_engine(sys, metrics, settings);
  spec.registered.reserved_bytes = 6'000; // The model needs 5096.
  auto refused = load(spec);
  CHECK(is(refused.error(), ec::out_of_memory));
  CHECK(text_of(refused.error()).find("reserved_memory_mb") != std::string::npos);
  spec.registered.reserved_bytes = 4'000;
  REQUIRE(load(spec));
  REQUIRE(unload("m"));
  spec.registered.required_bytes = 2'500; // Weights of 1000 alone would fit.
  CHECK(is(load(spec).error(), ec::out_of_memory));
  spec.registered.required_bytes = uint64_t{1} << 60;
  spec.registered.reserved_bytes = 0;
  CHECK(is(load(spec).error(), ec::out_of_memory));
}

TEST_CASE_METHOD(registry, "the time that a sequence waits for its first step is measured",
                 "[actors][registry]") {
  spec.load.max_sequences = 1;
  start();
  auto first = put(request("first", 3));
  auto second = put(request("second", 3));
  run();
  CHECK(first->complete());
  CHECK(second->complete());
  CHECK(numbers().queue_time.count() == 2);
  CHECK(numbers().load_time.value() >= 0);
}

TEST_CASE_METHOD(registry, "a version taken in turn gives way to one that can serve",
                 "[actors][registry]") {
  engine = spawn_engine(sys, metrics, settings);
  REQUIRE(load_version("1"));
  REQUIRE(load_version("2"));
  REQUIRE(scale(0, 0, "1"));
  auto in_turn = to("m", "1");
  in_turn.binding = version_binding::preferred;
  CHECK(generate(in_turn)->complete());
  CHECK(served("m:2") == 1);
  CHECK(is(generate(to("m", "1"))->failure(), ec::no_workers));
}

TEST_CASE_METHOD(registry, "a request bound to the entry without a version is served by no other",
                 "[actors][registry]") {
  engine = spawn_engine(sys, metrics, settings);
  REQUIRE(load_version(""));
  REQUIRE(load_version("2"));
  auto bound = to("m", "");
  bound.binding = version_binding::exact;
  for (int i = 0; i < 3; ++i)
    CHECK(generate(bound)->complete());
  CHECK(served("m") == 3);
  CHECK(served("m:2") == 0);
  REQUIRE(scale(0, 0, ""));
  CHECK(is(generate(bound)->failure(), ec::no_workers));
}

TEST_CASE_METHOD(registry, "requests are summed up where that is wanted", "[actors][registry]") {
  spec.registered.sum_up_every = 3;
  start();
  generate(request("a", 4));
  generate(request("b", 5));
  CHECK(numbers().windows.value() == 0);
  auto shown = [&] {
    for (const auto& family : metrics->snapshot())
      if (family.name == "OutputTokens")
        return family.samples;
    return std::vector<telemetry::sample>{};
  };
  CHECK(shown().empty());
  generate(request("c", 9));
  CHECK(numbers().windows.value() == 1);
  REQUIRE(shown().size() == 2);
  CHECK(shown()[0].value == 5);
  CHECK(shown()[1].value == 9);
  CHECK(shown()[0].labels[1].value == "0.5");
  CHECK(numbers().batch_size.median.value() == 1);
  for (auto name : {"Prediction", "Preprocess", "Inference", "Postprocess"}) {
    INFO(name);
    auto all = metrics->snapshot();
    auto found = std::find_if(all.begin(), all.end(), [=](auto& x) { return x.name == name; });
    REQUIRE(found != all.end());
    CHECK(found->samples.size() == 2);
  }
  const auto& n = numbers();
  auto parts = n.preprocess.median.value() + n.inference.median.value();
  CHECK(n.inference.median.value() > 0);
  CHECK(n.preprocess.ninetieth.value() <= n.prediction.ninetieth.value());
  CHECK(n.postprocess.ninetieth.value() <= n.prediction.ninetieth.value());
  CHECK(parts > 0);
}
