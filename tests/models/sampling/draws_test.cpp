#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <thread>

#include "fixtures.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::models::test;

namespace {

sampling_params sampling(uint64_t seed) {
  sampling_params p;
  p.sample = true;
  p.seed = seed;
  return p;
}

/// Chi-square of draws at positions 0.. against the exact distribution, per degree of freedom.
/// Tokens that are expected fewer than 10 times share one class.
double chi_square_per_degree(const std::vector<float>& row, const sampling_params& p,
                             uint32_t draws) {
  const sequence_sampler sampler{start_of(p)};
  std::map<int32_t, double> seen;
  for (uint32_t position = 0; position < draws; ++position)
    ++seen[sample_row(row, sampler, wants_token(), position).token];
  const auto exact = next_token_distribution(row, sampler, 0);
  double sum = 0, rare_seen = 0, rare_expected = 0;
  int classes = 0;
  for (const auto& [token, probability] : *exact) {
    const double expected = double{probability} * draws;
    const double count = seen[token];
    seen.erase(token);
    if (expected < 10) {
      rare_seen += count;
      rare_expected += expected;
      continue;
    }
    sum += (count - expected) * (count - expected) / expected;
    ++classes;
  }
  for (const auto& [token, count] : seen)
    CHECK(count == 0); // Nothing outside of the distribution is ever drawn.
  if (rare_expected > 0) {
    sum += (rare_seen - rare_expected) * (rare_seen - rare_expected) / rare_expected;
    ++classes;
  }
  return sum / (classes - 1);
}

} // namespace

TEST_CASE("draws follow the exact probabilities", "[models][sampling]") {
  const auto small = random_row(40, 3);
  const auto wide = random_row(1500, 4);
  auto p = sampling(11);
  // Seeds are fixed, so that these figures are too; with about 40 degrees 1.6 is the 99 % quantile.
  CHECK(chi_square_per_degree(small, p, 20000) < 1.6);
  CHECK(chi_square_per_degree(wide, p, 10000) < 1.4);
  p.temperature = 1.7f;
  CHECK(chi_square_per_degree(small, p, 20000) < 1.6);
  p.top_p = 0.8f;
  CHECK(chi_square_per_degree(small, p, 20000) < 1.8);
  p.top_k = 7;
  CHECK(chi_square_per_degree(small, p, 20000) < 2.8);
  CHECK(chi_square_per_degree(wide, p, 5000) < 2.8);
}

TEST_CASE("draws follow the exact probabilities behind every filter and combination of filters",
          "[models][sampling]") {
  auto p = sampling(12);
  SECTION("min_p") {
    p.min_p = 0.05f;
  }
  SECTION("typical_p") {
    p.typical_p = 0.7f;
  }
  SECTION("epsilon_cutoff") {
    p.epsilon_cutoff = 0.02f;
  }
  SECTION("eta_cutoff") {
    p.eta_cutoff = 0.02f;
  }
  SECTION("top_k and min_p") {
    p.top_k = 12;
    p.min_p = 0.02f;
  }
  SECTION("top_p and typical_p at a high temperature") {
    p.temperature = 2;
    p.top_p = 0.9f;
    p.typical_p = 0.9f;
  }
  SECTION("all of them behind penalties") {
    p.temperature = 1.5f;
    p.top_k = 30;
    p.top_p = 0.98f;
    p.min_p = 0.01f;
    p.typical_p = 0.99f;
    p.epsilon_cutoff = 0.001f;
    p.eta_cutoff = 0.001f;
    p.logit_bias = {{3, 2.0f}, {5, -1.5f}};
    p.suppress_tokens = {0, 39};
  }
  // With a handful of degrees 3 is about the 99 % quantile; the seed is fixed.
  CHECK(chi_square_per_degree(random_row(40, 3, 1.2f), p, 20000) < 3);
}

TEST_CASE("a draw is a function of seed, sequence index and position only", "[models][sampling]") {
  const auto row = random_row(3000, 9);
  auto p = sampling(5);
  const auto tokens_of = [&](const sampling_params& params) {
    std::vector<int32_t> tokens;
    const sequence_sampler sampler{start_of(params)};
    for (uint32_t position = 0; position < 50; ++position)
      tokens.push_back(sample_row(row, sampler, wants_token(), position).token);
    return tokens;
  };
  const auto expected = tokens_of(p);

  // Backwards, between rows of other sizes and parameters, on another thread.
  std::vector<int32_t> backwards(50);
  std::thread{[&] {
    const sequence_sampler sampler{start_of(p)};
    auto other = sampling(99);
    other.top_k = 20;
    for (uint32_t position = 50; position-- > 0;) {
      draw(random_row(200 + position * 100, position), other);
      backwards[position] = sample_row(row, sampler, wants_token(), position).token;
    }
  }}.join();
  CHECK(backwards == expected);
  CHECK(tokens_of(p) == expected);

  auto next_sequence = p;
  next_sequence.sequence_index = 1;
  CHECK(tokens_of(next_sequence) != expected);
  auto high_bit = p;
  high_bit.seed |= uint64_t{1} << 63;
  CHECK(tokens_of(high_bit) != expected);
}

TEST_CASE("a preempted sequence draws on as if nothing had happened", "[models][sampling]") {
  auto p = sampling(123);
  p.repetition_penalty = 1.3f;
  p.frequency_penalty = 0.4f;
  p.no_repeat_ngram_size = 2;
  p.bad_words = {{4}, {5, 6}};
  p.top_k = 30;
  auto start = start_of(p, {10, 11, 12});
  sequence_sampler running{start};
  for (uint32_t position = 3; position < 60; ++position) {
    const auto row = random_row(100, position);
    sequence_sampler replayed{start};
    const auto expected = sample_row(row, running, wants_token(3), position);
    const auto got = sample_row(row, replayed, wants_token(3), position);
    REQUIRE(got.fault == ec::none);
    CHECK(got.token == expected.token);
    CHECK(got.logprob == expected.logprob);
    running.push_token(expected.token);
    start.history.push_back(expected.token);
  }
}

TEST_CASE("the ends of the unit interval draw tokens of positive weight", "[models][sampling]") {
  // Masked tokens at both ends: neither the first nor the last of the row may ever be drawn.
  std::vector<float> row(300, 0.0f);
  auto p = sampling(1);
  for (int32_t token = 0; token < 100; ++token) {
    p.suppress_tokens.push_back(token);
    p.suppress_tokens.push_back(299 - token);
  }
  const sequence_sampler sampler{start_of(p)};
  std::set<int32_t> seen;
  for (uint32_t position = 0; position < 3000; ++position)
    seen.insert(sample_row(row, sampler, wants_token(), position).token);
  CHECK(seen.size() == 100);
  CHECK(*seen.begin() == 100);
  CHECK(*seen.rbegin() == 199);
}
