#include <catch2/catch.hpp>

#include "life.hpp"

using namespace troupe;

namespace {

class searches : public test::life {
public:
  searches() { start(); }

  /// Collected, as everything that searches beams is.
  static generation_request beams(uint32_t lanes, uint32_t returned, int64_t tokens = 5) {
    auto r = request("abc", tokens);
    r.params.stream = false;
    r.params.search.kind = search_kind::beams;
    r.params.search.lanes = lanes;
    r.params.n = r.params.best_of = returned;
    return r;
  }

  static generation_request contrastive(uint32_t candidates) {
    auto r = request("abc", 5);
    r.params.search.kind = search_kind::contrastive;
    r.params.search.lanes = candidates;
    return r;
  }

  void expect_clean() {
    CHECK(numbers().blocks_used.value() == 0);
    CHECK(numbers().running.value() == 0);
    CHECK(numbers().waiting.value() == 0);
  }

  std::string refusal(generation_request r) {
    auto failure = generate(std::move(r))->failure();
    CHECK(failure == caf::make_error(ec::invalid_request));
    return text_of(failure);
  }
};

} // namespace

TEST_CASE_METHOD(searches, "beams come whole, the best first, as many as were asked for",
                 "[actors][request][search]") {
  auto seen = generate(beams(3, 2));
  CHECK(seen->terminals() == 1);
  CHECK(seen->complete());
  REQUIRE(seen->ends().size() == 2);
  CHECK(seen->prompts().size() == 1);
  for (uint32_t i = 0; i < 2; ++i) {
    CHECK(seen->ends()[i].choice == i);
    CHECK(seen->ends()[i].reason == finish_reason::length);
    CHECK(seen->ends()[i].generated_tokens == 5);
    CHECK(seen->tokens(i).size() == 5);
    CHECK(seen->text(i) == seen->ends()[i].generated_text);
  }
  CHECK(seen->ends()[0].cumulative_logprob > seen->ends()[1].cumulative_logprob);
  CHECK(seen->ends()[0].cumulative_logprob == -2.5);
  CHECK(seen->text(0) != seen->text(1));
  CHECK(generate(beams(3, 2))->text(1) == seen->text(1));
  expect_clean();
}

TEST_CASE_METHOD(searches, "each token of a beam has its alternatives",
                 "[actors][request][search]") {
  auto r = beams(2, 2);
  r.params.top_n = 2;
  r.params.prompt_logprobs = true;
  auto seen = generate(r);
  for (const auto& token : seen->tokens(1))
    CHECK(token.top.size() >= 2);
  REQUIRE(seen->prompts().size() == 1);
  CHECK(seen->prompts()[0].tokens.size() == 3);
  CHECK(seen->prompts()[0].tokens[1].has_logprob);
}

TEST_CASE_METHOD(searches, "a beam is cut at its first stop sequence",
                 "[actors][request][search]") {
  auto whole = generate(beams(2, 1))->ends().at(0).generated_text;
  auto r = beams(2, 1);
  r.params.stop = {whole.substr(2, 1)};
  auto end = generate(r)->ends().at(0);
  CHECK(end.reason == finish_reason::stop_sequence);
  CHECK(end.generated_text == whole.substr(0, whole.find(r.params.stop[0])));
  expect_clean();
}

TEST_CASE_METHOD(searches, "a stop sequence ends a beam while it runs",
                 "[actors][request][search]") {
  const auto steps_of = [&](const generation_request& r) {
    const auto before = numbers().steps.value();
    generate(r);
    return numbers().steps.value() - before;
  };
  const auto whole = generate(beams(2, 1, 100))->ends().at(0).generated_text;
  auto r = beams(2, 1, 100);
  const auto all = steps_of(r);
  // Every letter there is: the first token ends each beam.
  for (char c : whole)
    if (r.params.stop.size() < 16 && std::find(r.params.stop.begin(), r.params.stop.end(),
                                               std::string{c}) == r.params.stop.end())
      r.params.stop.push_back(std::string{c});
  CHECK(steps_of(r) < all / 2);
  auto end = generate(r)->ends().at(0);
  CHECK(end.reason == finish_reason::stop_sequence);
  CHECK(end.generated_text.empty());
  expect_clean();
}

TEST_CASE_METHOD(searches, "max_time ends beams with the best there are by then",
                 "[actors][request][search]") {
  auto r = beams(3, 3, 200);
  r.params.max_time_ms = 50;
  auto seen = put(r);
  REQUIRE(run_until([&] { return numbers().steps.value() > 5; }));
  advance(std::chrono::milliseconds{51});
  run();
  CHECK(seen->complete());
  REQUIRE(seen->ends().size() == 3);
  for (const auto& end : seen->ends()) {
    CHECK(end.reason == finish_reason::length);
    CHECK(end.generated_tokens > 0);
    CHECK(end.generated_tokens < 200);
  }
  CHECK(seen->ends()[0].cumulative_logprob >= seen->ends()[2].cumulative_logprob);
  expect_clean();
}

TEST_CASE_METHOD(searches, "an end token ends one beam while others go on",
                 "[actors][request][search]") {
  model->next = [](const std::vector<int32_t>& history, uint32_t prompt_length) {
    return history.size() - prompt_length == 2 ? 257 : 'a';
  };
  auto r = beams(2, 2, 4);
  r.params.ignore_eos = false;
  auto seen = generate(r);
  REQUIRE(seen->ends().size() == 2);
  CHECK(seen->ends()[0].reason == finish_reason::eos_token);
  CHECK(seen->ends()[0].generated_text == "aa");
  CHECK(seen->ends()[0].generated_tokens == 3);
  expect_clean();
}

TEST_CASE_METHOD(searches, "a search that finds fewer sequences than asked for answers with those",
                 "[actors][request][search]") {
  model->candidates = 1;
  auto seen = generate(beams(3, 3));
  CHECK(seen->complete());
  CHECK(seen->ends().size() == 1);
  CHECK(seen->ends().at(0).generated_tokens == 5);
  expect_clean();
}

TEST_CASE_METHOD(searches, "contrastive search streams like any other",
                 "[actors][request][search]") {
  auto seen = generate(contrastive(3));
  CHECK(seen->terminals() == 1);
  CHECK(seen->tokens().size() == 5);
  CHECK(seen->batches.size() >= 5);
  CHECK(seen->text() == seen->ends().at(0).generated_text);
  auto r = contrastive(3);
  r.params.stop = {seen->text().substr(1, 1)};
  auto stopped = generate(r);
  CHECK(stopped->ends().at(0).reason == finish_reason::stop_sequence);
  CHECK(stopped->ends().at(0).generated_text ==
        seen->text().substr(0, seen->text().find(r.params.stop[0])));
  expect_clean();
}

TEST_CASE_METHOD(searches, "who leaves in the middle of a search frees all its places",
                 "[actors][request][search]") {
  auto seen = put(beams(4, 4, 200));
  REQUIRE(run_until([&] { return numbers().running.value() == 4 && numbers().steps.value() > 5; }));
  caf::anon_send(seen->request, cancel_atom_v);
  run();
  CHECK(seen->terminals() <= 1);
  expect_clean();
  CHECK(generate(beams(2, 1))->complete());
}

TEST_CASE_METHOD(searches, "searches that cannot be are refused by name",
                 "[actors][request][search]") {
  auto r = beams(2, 3);
  CHECK(refusal(r).find("num_beams (2)") != std::string::npos);
  r = beams(100, 1);
  CHECK(refusal(r).find("num_beams must be") != std::string::npos);
  r = beams(2, 1);
  r.params.best_of = 2;
  CHECK(refusal(r).find("best_of") != std::string::npos);
  r = beams(2, 1);
  r.params.stream = true;
  CHECK(refusal(r).find("num_beams above 1 cannot be streamed") != std::string::npos);
  r = contrastive(40);
  CHECK(refusal(r).find("max_rolling_batch_size") != std::string::npos);
  r = contrastive(3);
  r.params.n = r.params.best_of = 2;
  CHECK(refusal(r).find("one sequence") != std::string::npos);
}
