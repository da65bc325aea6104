#include <catch2/catch.hpp>

#include "life.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

/// A model without rolling batch: calls run in batches that nobody joins.
class calls : public test::life {
public:
  void serve(uint32_t size, uint32_t delay_ms = 0) {
    spec.call_batch = size;
    spec.call_delay_ms = delay_ms;
    start();
  }
  static generation_request call(std::string id, int64_t tokens = 5) {
    auto r = request("abc", tokens);
    r.id = std::move(id);
    return r;
  }
};

} // namespace

TEST_CASE_METHOD(calls, "a call waits for the one before, its own requests go together",
                 "[actors][model][calls]") {
  serve(1);
  auto first = put(call("a", 40));
  auto also_first = put(call("a", 40));
  auto second = put(call("b"));
  REQUIRE(run_until([&] { return first->tokens().size() > 3; }));
  CHECK(!also_first->tokens().empty());
  CHECK(second->tokens().empty());
  CHECK(numbers().running.value() == 2);
  run();
  CHECK(first->complete());
  CHECK(also_first->complete());
  CHECK(second->complete());
  CHECK(second->text() == also_first->text().substr(0, 5));
}

TEST_CASE_METHOD(calls, "an incomplete batch begins when its first call has waited long enough",
                 "[actors][model][calls]") {
  serve(3, 100);
  auto first = put(call("a"));
  auto second = put(call("b"));
  run();
  CHECK(first->batches.empty());
  advance(101ms);
  run();
  CHECK(first->complete());
  CHECK(second->complete());
}

TEST_CASE_METHOD(calls, "the calls of a batch of several are counted", "[actors][model][calls]") {
  spec.registered.sum_up_every = 4;
  serve(2, 100);
  auto shown = [&] {
    std::vector<telemetry::sample> out;
    for (const auto& family : metrics->snapshot())
      if (family.name == "DynamicBatchSize")
        out = family.samples;
    return out;
  };
  put(call("alone"));
  run();
  advance(101ms);
  run();
  CHECK(shown().empty());
  put(call("a"));
  put(call("a")); // The same call.
  put(call("b"));
  run();
  REQUIRE(shown().size() == 1);
  CHECK(shown()[0].value == 2);
  CHECK(shown()[0].labels[0].name == "Model");
  CHECK(numbers().windows.value() == 1);
}

TEST_CASE_METHOD(calls, "a call that is over its time while it waits ends, and others go on",
                 "[actors][model][calls]") {
  serve(1);
  auto first = put(call("a", 400));
  auto r = call("b");
  r.deadline_ms = 50;
  auto second = put(r);
  auto third = put(call("c"));
  REQUIRE(run_until([&] { return first->tokens().size() > 3; }));
  advance(51ms);
  REQUIRE(run_until([&] { return second->terminals() == 1; }));
  CHECK(second->failure() == caf::make_error(ec::request_timeout));
  run();
  CHECK(first->complete());
  CHECK(third->complete());
}

TEST_CASE_METHOD(calls, "max_time ends an answer with what is there", "[actors][request][calls]") {
  start();
  auto r = call("a", 400);
  r.params.max_time_ms = 50;
  auto seen = put(r);
  REQUIRE(run_until([&] { return seen->tokens().size() > 3; }));
  advance(51ms);
  run();
  CHECK(seen->complete());
  CHECK(seen->ends().at(0).reason == finish_reason::length);
  CHECK(seen->ends().at(0).generated_tokens < 400);
  CHECK(seen->text() == seen->ends().at(0).generated_text);
  CHECK(numbers().running.value() == 0);
}

TEST_CASE_METHOD(calls, "max_length counts the prompt, and refuses one that is longer",
                 "[actors][request][calls]") {
  start();
  auto r = call("a", -1);
  r.params.max_length = 10;
  CHECK(generate(r)->tokens().size() == 7);
  r.params.max_length = 3;
  auto refused = generate(r);
  CHECK(refused->failure() == caf::make_error(ec::invalid_request));
  CHECK(text_of(refused->failure()).find("max_length is 3") != std::string::npos);
}

TEST_CASE_METHOD(calls, "a request may have end tokens of its own", "[actors][request][calls]") {
  start();
  model->next = [](const std::vector<int32_t>& history, uint32_t prompt_length) {
    return static_cast<int32_t>('a' + history.size() - prompt_length);
  };
  auto r = call("a", 20);
  r.params.ignore_eos = false;
  r.params.eos_tokens = {'d'};
  auto seen = generate(r);
  CHECK(seen->ends().at(0).reason == finish_reason::eos_token);
  CHECK(seen->ends().at(0).generated_tokens == 4);
}
