#include "copies.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

class lost_copy : public test::copies {
public:
  /// The second GPU is lost in a step of many sequences.
  void lose_second(uint32_t countdown = 12) {
    left = countdown;
    fault = [this](size_t place, const troupe::step&) -> caf::error {
      if (place != 1 || left == 0 || --left > 0)
        return caf::none;
      return caf::make_error(ec::device_lost, std::string{"the device fell off the bus"});
    };
  }

  uint32_t left = 0;
};

} // namespace

TEST_CASE_METHOD(lost_copy, "the streams of a lost copy go on at a healthy one",
                 "[actors][copies][failure]") {
  start();
  auto texts = undisturbed(20, 40);
  lose_second();
  auto all = put_all(20, 40);
  run();
  REQUIRE(left == 0);
  check_all(all, texts); // Time has stood still: nobody waited for the reload.
  CHECK(status().state == model_state::degraded);
  CHECK(status().groups[1].workers.at(0).state == worker_state::loading);
  CHECK(status().problem == "the device fell off the bus");
  CHECK(generate(request("new", 1))->complete());
  auto made = on[1]->made;
  advance(settings.factories.first_backoff);
  CHECK(on[1]->made == made + 1);
  CHECK(status().state == model_state::ready);
  CHECK(status().problem.empty());
}

TEST_CASE_METHOD(lost_copy, "choices, samples and searches are moved, too",
                 "[actors][copies][failure]") {
  start();
  auto several = request("several", 30);
  several.params.n = several.params.best_of = 2;
  several.params.prompt_logprobs = true;
  auto collected = several;
  collected.params.stream = false;
  auto beams = request("beams", 30);
  beams.params.stream = false;
  beams.params.search.kind = search_kind::beams;
  beams.params.search.lanes = 3;
  beams.params.n = beams.params.best_of = 2;
  auto contrastive = request("contrastive", 30);
  contrastive.params.search.kind = search_kind::contrastive;
  contrastive.params.search.lanes = 2;
  const auto kinds = {several, collected, beams, contrastive};
  std::vector<std::array<std::string, 2>> texts;
  for (const auto& kind : kinds) {
    auto seen = generate(kind);
    texts.push_back({seen->text(0), seen->text(1)});
    REQUIRE(seen->complete());
  }
  lose_second(GENERATE(1u, 2u, 7u, 20u));
  std::vector<test::recording_ptr> all;
  for (const auto& kind : kinds) {
    put(request("makes the first copy the busier one", 30));
    all.push_back(put(kind));
  }
  run();
  REQUIRE(left == 0);
  for (size_t i = 0; i < all.size(); ++i) {
    INFO("kind " << i);
    CHECK(all[i]->complete());
    CHECK(all[i]->terminals() == 1);
    CHECK(all[i]->prompts().size() == 1);
    CHECK(all[i]->text(0) == texts[i][0]);
    CHECK(all[i]->text(1) == texts[i][1]);
  }
  check_clean();
}

TEST_CASE_METHOD(lost_copy, "who leaves after a move frees his place at the new copy",
                 "[actors][copies][failure]") {
  start();
  auto first = put(request("first", 200));
  auto second = put(request("second", 200));
  run_until([&] { return second->tokens().size() == 4; });
  lose_second(1);
  run_until([&] { return left == 0; });
  auto told = second->tokens().size();
  run_until([&] { return second->tokens().size() > told + 2; });
  caf::anon_send(second->request, cancel_atom_v);
  run();
  CHECK(is(second->failure(), ec::cancelled));
  CHECK(first->complete());
  check_clean();
}

TEST_CASE_METHOD(lost_copy, "when all copies are lost, streams wait for the first that is back",
                 "[actors][copies][failure]") {
  spec.retry_threshold = 3;
  start();
  auto texts = undisturbed(6, 40);
  auto all = put_all(6, 40);
  run_until([&] { return all[5]->tokens().size() == 4; });
  fault = [](size_t, const troupe::step&) {
    return caf::make_error(ec::device_lost, std::string{"a storm"});
  };
  run();
  REQUIRE(!all[0]->complete());
  CHECK(status().state == model_state::reloading);
  CHECK(is(generate(request("new", 1))->failure(), ec::model_not_ready));
  fault = nullptr;
  advance(settings.factories.first_backoff);
  advance(settings.factories.first_backoff);
  check_all(all, texts);
  CHECK(status().state == model_state::ready);
}

TEST_CASE_METHOD(lost_copy, "beyond the threshold the model fails, but healthy copies finish",
                 "[actors][copies][failure]") {
  spec.retry_threshold = 0;
  start();
  auto texts = undisturbed(20, 40);
  lose_second();
  auto all = put_all(20, 40);
  run_until([&] { return left == 0; });
  run_until([&] { return status().state == model_state::failed; });
  run();
  for (size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i]->complete());
    CHECK(all[i]->text() == texts[i]);
  }
  CHECK(status().state == model_state::failed);
  CHECK(status().problem.find("retry_threshold") != std::string::npos);
  CHECK(is(generate(request("new", 1))->failure(), ec::model_not_ready));
  CHECK(*room[0] == 1); // Nothing is kept for it.
  CHECK(*room[1] == 1);
  advance(1min);
  CHECK(status().state == model_state::failed);
}

TEST_CASE_METHOD(lost_copy, "a copy whose scheduler dies loses no stream",
                 "[actors][copies][failure]") {
  start();
  auto texts = undisturbed(6, 40);
  auto all = put_all(6, 40);
  run_until([&] { return all[5]->tokens().size() == 4; });
  auto who = GENERATE("scheduler", "shard");
  auto made = on[0]->made + on[1]->made;
  REQUIRE(kill(who));
  run();
  for (size_t i = 0; i < all.size(); ++i) {
    INFO("stream " << i << " after the death of a " << who);
    CHECK(all[i]->complete());
    CHECK(all[i]->text() == texts[i]);
  }
  advance(settings.factories.first_backoff);
  CHECK(status().state == model_state::ready);
  CHECK(on[0]->made + on[1]->made == made + (who == std::string{"scheduler"} ? 0 : 1));
  check_clean();
  CHECK(generate(request(prompt_of(2), 40))->text() == texts[2]);
}

TEST_CASE_METHOD(lost_copy, "a copy whose own actor dies is replaced and loses no stream",
                 "[actors][copies][failure]") {
  spec.retry_threshold = 2;
  start();
  auto texts = undisturbed(6, 40);
  lose_second(4);
  auto all = put_all(6, 40);
  run_until([&] { return left == 0; });
  REQUIRE(kill("replica")); // It has just been told of its dead shard.
  run();
  check_all(all, texts);
  CHECK(status().state == model_state::degraded);
  advance(settings.factories.longest_backoff);
  CHECK(status().state == model_state::ready);
  CHECK(status().groups[1].workers.at(0).id == 3);
  CHECK(*room[1] == 0);
}

TEST_CASE_METHOD(lost_copy, "unloading waits for every copy and gives all memory back",
                 "[actors][copies]") {
  start();
  auto all = put_all(6, 40);
  run_until([&] { return all[5]->tokens().size() == 4; });
  REQUIRE(ask<model_status>(engine, unload_atom_v, std::string{"m"}));
  for (auto& seen : all)
    CHECK(seen->complete());
  CHECK(*room[0] == 1);
  CHECK(*room[1] == 1);
}
