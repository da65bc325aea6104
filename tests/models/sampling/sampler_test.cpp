#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "fixtures.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::models::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

double log_softmax(const std::vector<float>& row, size_t token) {
  double sum = 0;
  for (const auto value : row)
    sum += std::exp(double{value} - row[token]);
  return -std::log(sum);
}

} // namespace

TEST_CASE("greedy takes the largest logit, the lowest id among equals", "[models][sampling]") {
  auto row = random_row(49152, 1);
  row[40000] = row[300] = row[301] = 90.0f;
  CHECK(draw(row, {}).token == 300);
  CHECK(draw(std::vector<float>(1000, -3.0f), {}).token == 0);
  CHECK(draw({1.0f}, {}).token == 0);
  row.back() = 91.0f;
  CHECK(draw(row, {}).token == 49151);
}

TEST_CASE("log-probabilities are those of the raw logits, whatever the processors do",
          "[models][sampling]") {
  const auto row = random_row(5000, 2);
  sampling_params p;
  p.logit_bias = {{4321, 100.0f}};
  const auto result = sample_row(row, sequence_sampler{start_of(p)}, wants_token(4), 3);
  REQUIRE(result.token == 4321);
  CHECK(result.logprob == Approx(log_softmax(row, 4321)).margin(1e-5));
  REQUIRE(result.top.size() == 5); // The four most likely, then the drawn one.
  CHECK(result.top[4] == token_value{4321, result.logprob});
  for (size_t i = 0; i < 4; ++i) {
    CHECK(result.top[i].value ==
          Approx(log_softmax(row, static_cast<size_t>(result.top[i].token))).margin(1e-5));
    CHECK((i == 0 || result.top[i].value <= result.top[i - 1].value));
  }
  const auto likely = sample_row(row, sequence_sampler{start_of({})}, wants_token(4), 3);
  CHECK(likely.top.size() == 4); // It is among them.
  CHECK(likely.top[0] == token_value{likely.token, likely.logprob});
}

TEST_CASE("top tokens that tie are listed by id, and no more than there are",
          "[models][sampling]") {
  const auto result =
      sample_row(std::vector<float>(6, 2.0f), sequence_sampler{start_of({})}, wants_token(20), 3);
  REQUIRE(result.top.size() == 6);
  for (int32_t i = 0; i < 6; ++i)
    CHECK(result.top[static_cast<size_t>(i)].token == i);
}

TEST_CASE("log-probabilities stay finite and at most zero", "[models][sampling]") {
  std::vector<float> row(10, -infinity);
  row[4] = 3.4e38f;
  row[5] = -3.4e38f;
  const auto result = sample_row(row, sequence_sampler{start_of({})}, wants_token(10), 3);
  REQUIRE(result.fault == ec::none);
  CHECK(result.token == 4);
  CHECK(result.logprob == 0.0f);
  for (const auto& t : result.top) {
    CHECK(std::isfinite(t.value));
    CHECK(t.value <= 0.0f);
  }
}

TEST_CASE("broken logits are the row's fault and name the trouble", "[models][sampling]") {
  auto sample = sampling_params{};
  sample.sample = true;
  sample.top_p = 0.9f;
  for (const auto& p : {sampling_params{}, sample}) {
    for (const float bad : {std::nanf(""), infinity}) {
      for (const size_t place : {0u, 50u, 199u}) {
        std::vector<float> row = random_row(200, 3);
        row[place] = bad;
        const auto result = draw(row, p);
        CHECK(result.fault == ec::row_fault);
        CHECK(result.sequence == sequence_id{7});
        CHECK(result.token == -1);
        CHECK(result.fault_text.find(std::isnan(bad) ? "NaN" : "Inf") != std::string::npos);
      }
    }
    CHECK(draw(std::vector<float>(200, std::nanf("")), p).fault == ec::row_fault);
    CHECK(draw(std::vector<float>(200, -infinity), p).fault == ec::row_fault);
    CHECK(draw({}, p).fault == ec::row_fault);
  }
}

TEST_CASE("a row in which every token is masked is a fault", "[models][sampling]") {
  for (const bool random : {false, true}) {
    sampling_params p;
    p.sample = random;
    p.suppress_tokens = {0, 1};
    p.bad_words = {{2}};
    const auto result = draw({1.0f, 2.0f, 3.0f}, p);
    CHECK(result.fault == ec::row_fault);
    CHECK(result.fault_text.find("masked") != std::string::npos);
  }
}

TEST_CASE("hostile parameters give a token or a fault, never more", "[models][sampling]") {
  const auto row = random_row(2000, 6);
  const float odd[] = {0.0f, -1.0f, 1e-38f, 1e38f, infinity, -infinity, std::nanf(""), 5.0f};
  float sampling_params::*const fields[] = {&sampling_params::temperature,
                                            &sampling_params::top_p,
                                            &sampling_params::min_p,
                                            &sampling_params::typical_p,
                                            &sampling_params::epsilon_cutoff,
                                            &sampling_params::eta_cutoff,
                                            &sampling_params::repetition_penalty,
                                            &sampling_params::encoder_repetition_penalty,
                                            &sampling_params::frequency_penalty,
                                            &sampling_params::presence_penalty};
  for (const auto field : fields)
    for (const float value : odd) {
      sampling_params p;
      p.sample = true;
      p.*field = value;
      const auto result = draw(row, p);
      CHECK((result.fault == ec::row_fault || (result.token >= 0 && result.token < 2000)));
    }
  sampling_params p;
  p.sample = true;
  p.top_k = -5;
  p.logit_bias = {{-1, 3.0f}, {2000, 3.0f}, {1 << 30, 3.0f}};
  p.suppress_tokens = {-7, 2000};
  p.bad_words = {{}, {-3}, {99999}, {1, 2, 3, 4, 5, 6, 7}};
  p.eos_tokens = {-1, 5000};
  p.min_new_tokens = ~0u;
  p.no_repeat_ngram_size = ~0u;
  CHECK(draw(row, p).fault == ec::none);
}

TEST_CASE("feeding tokens again changes nothing, another token replaces the rest",
          "[models][sampling]") {
  sampling_params p;
  p.frequency_penalty = 0.5f;
  sequence_sampler sampler{start_of(p, {1, 2, 3})};
  sampler.feed(0, std::vector<int32_t>{1, 2, 3}); // The prompt pass.
  CHECK(sampler.history().size() == 3);
  sampler.feed(3, std::vector<int32_t>{8});
  sampler.feed(4, std::vector<int32_t>{8});
  CHECK(sampler.history().size() == 5);
  REQUIRE(sampler.occurrences().size() == 4);
  CHECK(sampler.occurrences()[3].in_output == 2);
  sampler.feed(3, std::vector<int32_t>{9}); // Another beam's token.
  CHECK(std::vector<int32_t>(sampler.history().begin(), sampler.history().end()) ==
        std::vector<int32_t>{1, 2, 3, 9});
  CHECK(sampler.occurrences()[3].token == 9);
  CHECK(sampler.occurrences()[3].in_output == 1);
}

TEST_CASE("a history that misses tokens is a fault only where it matters", "[models][sampling]") {
  const auto row = random_row(50, 1);
  sampling_params p;
  CHECK(draw(row, p, 10).fault == ec::none); // Plain greedy needs no history.
  p.presence_penalty = 1.0f;
  CHECK(draw(row, p, 10).fault == ec::row_fault);
  sequence_sampler sampler{start_of(p)};
  sampler.feed(9, std::vector<int32_t>{5});
  CHECK(sampler.has_gap());
  CHECK(sample_row(row, sampler, wants_token(), 3).fault == ec::row_fault);
}

TEST_CASE("prompt log-probabilities name the target and the top", "[models][sampling]") {
  const auto row = random_row(300, 12);
  row_result result;
  add_prompt_logprob(row, 17, 0, result);
  add_prompt_logprob(row, 17, 3, result);
  REQUIRE(result.prompt.size() == 2);
  CHECK(result.prompt[0].token == 17);
  CHECK(result.prompt[0].value == Approx(log_softmax(row, 17)).margin(1e-5));
  REQUIRE(result.prompt_top.size() == 2);
  CHECK(result.prompt_top[0].empty());
  CHECK(result.prompt_top[1].size() == 4);
  CHECK(result.fault == ec::none);
  add_prompt_logprob(row, 300, 0, result);
  CHECK(result.fault == ec::row_fault);
  row_result broken;
  add_prompt_logprob(std::vector<float>(4, std::nanf("")), 1, 2, broken);
  CHECK(broken.fault == ec::row_fault);
  CHECK(broken.prompt.empty());
}

TEST_CASE("candidates are processed log-probabilities without masked tokens",
          "[models][sampling]") {
  sampling_params p;
  p.suppress_tokens = {0, 3};
  row_wants wants;
  wants.candidates = 10;
  const std::vector<float> row{5.0f, 1.0f, 2.0f, 4.0f, 2.0f};
  const auto result = sample_row(row, sequence_sampler{start_of(p)}, wants, 3);
  REQUIRE(result.candidates.size() == 3);
  CHECK(result.candidates[0].token == 2);
  CHECK(result.candidates[1].token == 4);
  CHECK(result.candidates[0].value ==
        Approx(log_softmax(row, 2)).margin(1e-5)); // Not renormalized.
  p.sample = true;
  p.top_k = 1;
  CHECK(sample_row(row, sequence_sampler{start_of(p)}, wants, 3).candidates.size() ==
        2); // They tie.
}

TEST_CASE("parameters are checked by name", "[models][sampling]") {
  sampling_params p;
  CHECK(!check_sampling(p, 100));
  p.sample = true;
  p.temperature = 0;
  CHECK(text_of(check_sampling(p, 100)) == "temperature must be above 0 when sampling, not 0");
  p.temperature = 1;
  p.top_p = 1.5f;
  CHECK(text_of(check_sampling(p, 100)) == "top_p must be above 0 and at most 1, not 1.5");
  p.top_p = 1;
  p.logit_bias = {{100, 1.0f}};
  CHECK(code_of(check_sampling(p, 100)) == ec::invalid_request);
  CHECK(!check_sampling(p, 101));
  p.repetition_penalty = std::nanf("");
  CHECK(text_of(check_sampling(p, 101)).find("repetition_penalty") == 0);
}
