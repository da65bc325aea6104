#include <catch2/catch.hpp>

#include <cmath>
#include <map>
#include <set>

#include "fixtures.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::models::test;

namespace {

row_wants candidates(uint16_t count, candidate_scores scores = candidate_scores::beams) {
  row_wants wants;
  wants.candidates = count;
  wants.scores = scores;
  return wants;
}

sampling_params drawing(uint64_t seed) {
  sampling_params p;
  p.sample = true;
  p.seed = seed;
  return p;
}

} // namespace

TEST_CASE("candidates of contrastive search carry the probabilities after processors",
          "[models][sampling]") {
  const auto row = random_row(60, 3);
  sampling_params p;
  p.repetition_penalty = 1.7f;
  p.suppress_tokens = {5, 6};
  const auto result = sample_row(row, sequence_sampler{start_of(p, {10, 11, 12})},
                                 candidates(60, candidate_scores::probabilities), 3);
  REQUIRE(result.fault == ec::none);
  REQUIRE(result.candidates.size() == 58);
  auto sampled = p;
  sampled.sample = true;
  const auto exact =
      next_token_distribution(row, sequence_sampler{start_of(sampled, {10, 11, 12})}, 3);
  REQUIRE(exact);
  std::map<int32_t, float> probabilities;
  for (const auto& t : *exact)
    probabilities[t.token] = t.value;
  double sum = 0;
  for (size_t i = 0; i < result.candidates.size(); ++i) {
    sum += result.candidates[i].value;
    CHECK(result.candidates[i].value ==
          Approx(probabilities[result.candidates[i].token]).epsilon(1e-5));
    CHECK((i == 0 || result.candidates[i - 1].value >= result.candidates[i].value));
  }
  CHECK(sum == Approx(1).epsilon(1e-5));
}

TEST_CASE("candidates carry the log-probabilities of the raw logits as well",
          "[models][sampling]") {
  const auto row = random_row(60, 4);
  sampling_params p;
  p.logit_bias = {{7, 30.0f}};
  const sequence_sampler biased{start_of(p)};
  const auto result = sample_row(row, biased, candidates(3), 3);
  REQUIRE(result.candidates.size() == 3);
  CHECK(result.candidates[0].token == 7);
  CHECK(result.candidates[0].value > 0);
  row_result scored;
  add_prompt_logprob(row, 7, 0, scored);
  CHECK(result.candidate_logprobs[0] == scored.prompt[0].value);
  CHECK(result.candidate_keys.empty());
}

TEST_CASE("renormalized scores of beams are log-probabilities again", "[models][sampling]") {
  const auto row = random_row(60, 5);
  auto p = sampling_params{};
  p.suppress_tokens = {1, 2, 3};
  p.renormalize = true;
  auto all = sample_row(row, sequence_sampler{start_of(p)}, candidates(60), 3).candidates;
  double sum = 0;
  for (const auto& c : all)
    sum += std::exp(double{c.value});
  CHECK(sum == Approx(1).epsilon(1e-5));
  p = drawing(1);
  p.top_k = 8;
  p.renormalize = true;
  all = sample_row(row, sequence_sampler{start_of(p)}, candidates(60), 3).candidates;
  sum = 0;
  for (const auto& c : all)
    sum += std::exp(double{c.value});
  CHECK(all.size() == 8);
  CHECK(sum == Approx(1).epsilon(1e-5));
}

TEST_CASE("beams that sample draw their candidates without replacement, by the exact probabilities",
          "[models][sampling]") {
  const auto row = random_row(12, 6, 1.0f);
  auto p = drawing(77);
  const auto exact = next_token_distribution(row, sequence_sampler{start_of(p)}, 0);
  REQUIRE(exact);
  constexpr int draws = 20000;
  std::map<std::pair<int32_t, int32_t>, double> seen;
  const sequence_sampler sampler{start_of(p)};
  for (uint32_t position = 0; position < draws; ++position) {
    const auto result = sample_row(row, sampler, candidates(2), position);
    REQUIRE(result.candidates.size() == 2);
    REQUIRE(result.candidate_keys[0] >= result.candidate_keys[1]);
    REQUIRE(result.candidates[0].token != result.candidates[1].token);
    ++seen[{result.candidates[0].token, result.candidates[1].token}];
  }
  // The pair (a, b) has probability p(a) p(b) / (1 - p(a)).
  double sum = 0;
  int classes = 0;
  for (const auto& a : *exact)
    for (const auto& b : *exact) {
      const double expected = double{a.value} * b.value / (1 - double{a.value}) * draws;
      if (a.token == b.token || expected < 10)
        continue;
      const double count = seen[{a.token, b.token}];
      sum += (count - expected) * (count - expected) / expected;
      ++classes;
    }
  REQUIRE(classes > 60);
  // With more than 60 degrees 1.5 is beyond the 99 % quantile; the seed is fixed.
  CHECK(sum / (classes - 1) < 1.5);
}

TEST_CASE("each beam has noise of its own, and the same again after a replay",
          "[models][sampling]") {
  const auto row = random_row(300, 8);
  const auto p = drawing(5);
  auto with_answer = [&](std::vector<int32_t> answer) {
    auto start = start_of(p);
    start.history.insert(start.history.end(), answer.begin(), answer.end());
    return sample_row(row, sequence_sampler{start}, candidates(8), 5).candidates;
  };
  CHECK(with_answer({4, 5}) == with_answer({4, 5}));
  CHECK(with_answer({4, 5}) != with_answer({4, 6}));
}
