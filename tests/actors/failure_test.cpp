#include <catch2/catch.hpp>

#include "life.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

class failures : public test::life {
public:
  failures() {
    spec.load.shards = 2;
    spec.retry_threshold = 1;
  }

  std::string prompt_of(size_t i) const { return "prompt number " + std::to_string(i * i); }

  /// What `count` streams say when nothing goes wrong.
  std::vector<std::string> undisturbed(size_t count, int64_t tokens) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < count; ++i)
      texts.push_back(generate(request(prompt_of(i), tokens))->text());
    return texts;
  }

  std::vector<test::recording_ptr> put_all(size_t count, int64_t tokens) {
    std::vector<test::recording_ptr> all;
    for (size_t i = 0; i < count; ++i)
      all.push_back(put(request(prompt_of(i), tokens)));
    return all;
  }

  /// Every stream ended once, with the tokens it would have had.
  void check_all(const std::vector<test::recording_ptr>& all,
                 const std::vector<std::string>& texts) {
    for (size_t i = 0; i < all.size(); ++i) {
      INFO("stream " << i);
      CHECK(all[i]->complete());
      CHECK(all[i]->terminals() == 1);
      CHECK(all[i]->text() == texts[i]);
    }
    CHECK(numbers().blocks_used.value() == 0);
    CHECK(numbers().running.value() == 0);
  }
};

} // namespace

TEST_CASE_METHOD(failures, "a shard that dies in the middle of 20 streams costs them no token",
                 "[actors][failure]") {
  start();
  auto texts = undisturbed(20, 30);
  auto shard = GENERATE(0u, 1u);
  uint32_t countdown = 12;
  model->fault = [&, shard](uint32_t index, const troupe::step& s) -> caf::error {
    if (index != shard || s.rows.size() < 5 || countdown == 0 || --countdown > 0)
      return caf::none;
    return caf::make_error(ec::device_lost, std::string{"the device fell off the bus"});
  };
  auto all = put_all(20, 30);
  run();
  REQUIRE(countdown == 0);
  REQUIRE(!all[0]->complete());
  CHECK(all[0]->tokens().size() > 1);
  // Readiness is gone at once, the streams are not.
  CHECK(status().state == model_state::reloading);
  CHECK(is(generate(request("new", 1))->failure(), ec::model_not_ready));
  auto made = model->made;
  advance(settings.factories.first_backoff);
  CHECK(model->made == made + 1); // Only the dead one is loaded again.
  CHECK(status().state == model_state::ready);
  check_all(all, texts);
}

TEST_CASE_METHOD(failures, "a shard that is killed is replaced", "[actors][failure]") {
  start();
  auto texts = undisturbed(4, 20);
  auto all = put_all(4, 20);
  run_until([&] { return all[3]->tokens().size() == 4; });
  REQUIRE(kill("shard"));
  run();
  REQUIRE(!all[0]->complete());
  advance(settings.factories.first_backoff);
  check_all(all, texts);
}

TEST_CASE_METHOD(failures, "more deaths than the threshold end the streams with an error",
                 "[actors][failure]") {
  start();
  model->fault = [](uint32_t index, const troupe::step& s) -> caf::error {
    if (index == 1 && s.rows.front().position > 20)
      return caf::make_error(ec::device_lost, std::string{"gone"});
    return caf::none;
  };
  auto all = put_all(3, 30);
  run();
  advance(settings.factories.first_backoff);
  for (auto& seen : all) {
    CHECK(is(seen->failure(), ec::device_lost));
    CHECK(text_of(seen->failure()).find("retry_threshold") != std::string::npos);
    CHECK(seen->terminals() == 1);
  }
  CHECK(status().state == model_state::failed);
  CHECK(is(generate(request("new", 1))->failure(), ec::model_not_ready));
}

TEST_CASE_METHOD(failures, "a shard that cannot be loaded again is tried until the threshold",
                 "[actors][failure]") {
  spec.retry_threshold = 3;
  start();
  auto texts = undisturbed(2, 20);
  auto all = put_all(2, 20);
  run_until([&] { return all[1]->tokens().size() == 4; });
  uint32_t refusals = 0;
  SECTION("it comes back in time") {
    model->load_fault = [&](uint32_t) {
      return ++refusals <= 2 ? caf::make_error(ec::out_of_memory, std::string{"full"})
                             : caf::error{};
    };
    REQUIRE(kill("shard"));
    run();
    advance(500ms);
    CHECK(refusals == 1);
    CHECK(status().problem == "full");
    advance(1s); // The wait doubles with each death.
    CHECK(refusals == 2);
    advance(1s);
    CHECK(refusals == 2);
    advance(1s);
    CHECK(refusals == 3);
    check_all(all, texts);
    CHECK(status().state == model_state::ready);
    CHECK(status().problem.empty());
  }
  SECTION("it does not") {
    model->load_fault = [&](uint32_t) {
      ++refusals;
      return caf::make_error(ec::out_of_memory, std::string{"full"});
    };
    REQUIRE(kill("shard"));
    run();
    advance(1min);
    advance(1min);
    advance(1min);
    CHECK(refusals == 3);
    for (auto& seen : all)
      CHECK(is(seen->failure(), ec::device_lost));
    CHECK(status().state == model_state::failed);
  }
}

TEST_CASE_METHOD(failures, "a step that fails is repeated and costs no token",
                 "[actors][failure]") {
  start();
  auto texts = undisturbed(20, 12);
  auto shard = GENERATE(0u, 1u);
  auto kind = GENERATE(0, 1, 2);
  uint32_t calls = 0, faults = 0;
  model->fault = [&, shard, kind](uint32_t index, const troupe::step&) -> caf::error {
    if (index != shard || ++calls % 5 != 0)
      return caf::none;
    ++faults;
    if (kind == 0)
      throw std::runtime_error{"an exception out of a kernel"};
    return caf::make_error(kind == 1 ? ec::step_fault : ec::out_of_memory, std::string{"no"});
  };
  auto all = put_all(20, 12);
  run();
  CHECK(faults > 2);
  check_all(all, texts);
  CHECK(numbers().step_faults.value() == faults);
  CHECK(status().state == model_state::ready);
}

TEST_CASE_METHOD(failures, "a poisoned request fails alone", "[actors][failure]") {
  start();
  auto texts = undisturbed(20, 12);
  auto check_others = [&](std::vector<test::recording_ptr>& all, ec code) {
    CHECK(is(all[7]->failure(), code));
    CHECK(all[7]->terminals() == 1);
    all.erase(all.begin() + 7);
    auto rest = texts;
    rest.erase(rest.begin() + 7);
    check_all(all, rest);
  };
  auto poison = prompt_of(7);
  SECTION("its row is faulty") {
    uint32_t seen_rows = 0;
    model->row_fault = [&](const step_row& row) {
      return row.position == poison.size() + 4 && ++seen_rows == 1 ? ec::row_fault : ec::none;
    };
    auto all = put_all(20, 12);
    run();
    size_t failed = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      failed += is(all[i]->failure(), ec::row_fault);
      if (!all[i]->failure())
        CHECK(all[i]->text() == texts[i]);
    }
    CHECK(failed == 1);
    CHECK(numbers().blocks_used.value() == 0);
  }
  SECTION("whatever step it is in fails") {
    auto poisoned = std::make_shared<sequence_id>();
    model->fault = [=](uint32_t index, const troupe::step& s) -> caf::error {
      for (const auto& start : s.starts)
        if (std::equal(poison.begin(), poison.end(), start.history.begin(), start.history.end()))
          *poisoned = start.sequence;
      for (const auto& row : s.rows)
        if (index == 1 && row.sequence == *poisoned)
          throw std::runtime_error{"poisoned"};
      return caf::none;
    };
    auto all = put_all(20, 12);
    run();
    check_others(all, ec::step_fault);
  }
}

TEST_CASE_METHOD(failures, "a dead scheduler ends its requests, and the next one serves",
                 "[actors][failure]") {
  start();
  auto texts = undisturbed(1, 10);
  auto all = put_all(5, 40);
  run_until([&] { return all[0]->tokens().size() == 4; });
  auto made = model->made;
  REQUIRE(kill("scheduler"));
  run();
  for (auto& seen : all) {
    CHECK(is(seen->failure(), ec::internal));
    CHECK(seen->terminals() == 1);
  }
  CHECK(status().queued == 0);
  CHECK(generate(request(prompt_of(0), 10))->text() == texts[0]);
  CHECK(model->made == made); // The shards kept their layers.
}

TEST_CASE_METHOD(failures, "a dead tokenizer ends what waits for it and is replaced",
                 "[actors][failure]") {
  start();
  auto first = put(request("abc", 4));
  auto tokenizer = find("tokenizer");
  REQUIRE(tokenizer);
  run();
  CHECK(first->complete());
  auto seen = put(request("abc", 4));
  REQUIRE(find("request"));
  caf::anon_send_exit(tokenizer, caf::exit_reason::kill);
  step(tokenizer); // Dies before the request has sent its text.
  run();
  CHECK(is(seen->failure(), ec::internal));
  CHECK(seen->terminals() == 1);
  CHECK(generate(request("abc", 4))->complete());
}

TEST_CASE_METHOD(failures, "a dead model ends its requests and is loaded again",
                 "[actors][failure]") {
  start();
  auto all = put_all(3, 200);
  run_until([&] { return all[2]->tokens().size() == 4; });
  caf::anon_send(engine, status_atom_v); // Gives the model a message to be found by.
  REQUIRE(kill("model"));
  run();
  for (auto& seen : all) {
    CHECK(is(seen->failure(), ec::internal));
    CHECK(seen->terminals() == 1);
  }
  CHECK(status().state == model_state::failed);
  CHECK(is(generate(request("x", 1))->failure(), ec::model_not_ready));
  advance(settings.factories.first_backoff);
  CHECK(status().state == model_state::ready);
  CHECK(generate(request("x", 4))->complete());
  caf::anon_send(engine, status_atom_v);
  REQUIRE(kill("model"));
  run();
  advance(1h); // It was allowed to die once.
  CHECK(status().state == model_state::failed);
  REQUIRE(ask<model_status>(engine, unload_atom_v, std::string{"m"}));
  CHECK(load(spec));
}

TEST_CASE_METHOD(failures, "a dead engine or supervisor takes everything along",
                 "[actors][failure]") {
  start();
  auto seen = put(request("abc", 200));
  run_until([&] { return seen->tokens().size() == 4; });
  caf::anon_send(engine, status_atom_v);
  auto who = GENERATE("engine", "supervisor");
  REQUIRE(kill(who));
  run();
  CHECK(is(seen->failure(), ec::shutting_down));
  seen->request = nullptr;
  sinks.clear();
  engine = nullptr;
  run();
  CHECK(sys.registry().running() == 0);
}

TEST_CASE_METHOD(failures, "a request that is killed still tells its sink", "[actors][failure]") {
  start();
  auto seen = put(request("abc", 200));
  run_until([&] { return seen->tokens().size() == 4; });
  caf::anon_send_exit(seen->request, caf::exit_reason::kill);
  run();
  CHECK(is(seen->failure(), ec::internal));
  CHECK(seen->terminals() == 1);
  CHECK(numbers().blocks_used.value() == 0);
  CHECK(status().queued == 0);
}

TEST_CASE_METHOD(failures, "a shard that dies during a drain is replaced, so that streams finish",
                 "[actors][failure]") {
  start();
  auto texts = undisturbed(3, 20);
  auto all = put_all(3, 20);
  run_until([&] { return all[2]->tokens().size() == 4; });
  caf::anon_send(engine, drain_atom_v, uint32_t{30'000});
  REQUIRE(kill("shard"));
  run();
  CHECK(status().state == model_state::draining);
  advance(settings.factories.first_backoff);
  check_all(all, texts);
  CHECK(status().state == model_state::draining);
}
