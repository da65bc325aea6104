#include <catch2/catch.hpp>

#include "troupe/actors/scheduling/contrastive_search.hpp"

using namespace troupe;
using namespace troupe::scheduling;

namespace {

row_result row_of(std::vector<token_value> candidates, std::vector<float> hidden) {
  row_result row;
  row.candidates = std::move(candidates);
  for (const auto& c : row.candidates)
    row.candidate_logprobs.push_back(-c.value);
  row.hidden = std::move(hidden);
  return row;
}

/// A prompt of one position whose hidden state looks to the right; its candidates are 1 and 2.
contrastive_search begun(contrastive_search::rules rules) {
  contrastive_search s{std::move(rules)};
  s.take_hidden(0, 1, std::vector<float>{2, 0});
  std::vector<row_result> rows{row_of({{1, 0.6f}, {2, 0.4f}}, {})};
  CHECK(s.advance(rows).lanes == std::vector<lane_step>{{0, 1}, {0, 2}});
  return s;
}

} // namespace

TEST_CASE("a likely token that repeats what stands before loses to another",
          "[actors][contrastive_search]") {
  auto second = [](float alpha) {
    auto s = begun({.candidates = 2, .alpha = alpha, .max_new_tokens = 5});
    // 0.6 but the same direction as the prompt's; 0.4 and at right angles to it.
    std::vector<row_result> rows{row_of({{3, 0.9f}, {4, 0.1f}}, {5, 0}),
                                 row_of({{5, 0.8f}, {6, 0.2f}}, {0, 0.1f})};
    return s.advance(rows);
  };
  auto move = second(0.6f);
  REQUIRE(move.token);
  CHECK(move.token->token == 2);
  CHECK(move.token->logprob == -0.4f);
  CHECK(move.lanes == std::vector<lane_step>{{1, 5}, {1, 6}});
  move = second(0.05f);
  CHECK(move.token->token == 1);
  CHECK(move.lanes == std::vector<lane_step>{{0, 3}, {0, 4}});
}

TEST_CASE("every position before counts, the winners' own too", "[actors][contrastive_search]") {
  auto s = begun({.candidates = 2, .alpha = 0.6f, .max_new_tokens = 5});
  std::vector<row_result> rows{row_of({{3, 0.9f}, {4, 0.1f}}, {5, 0}),
                               row_of({{5, 0.6f}, {6, 0.4f}}, {0, 1})};
  CHECK(s.advance(rows).token->token == 2);
  CHECK(s.known() == 2);
  // Now the likelier one repeats the token that has just been chosen.
  rows = {row_of({{7, 1}}, {0, 3}), row_of({{8, 1}}, {0, -3})};
  CHECK(s.advance(rows).token->token == 6);
}

TEST_CASE("contrastive search ends with an end token or when its length is reached",
          "[actors][contrastive_search]") {
  std::vector<row_result> rows{row_of({{3, 1}}, {5, 0}), row_of({{5, 1}}, {0, 1})};
  auto s = begun({.candidates = 2, .alpha = 0.6f, .ends = {2}, .max_new_tokens = 5});
  auto move = s.advance(rows);
  CHECK(move.end == sequence_end::stop_token);
  CHECK(move.lanes.empty());
  rows = {row_of({{3, 1}}, {5, 0}), row_of({{5, 1}}, {0, 1})};
  auto shorter = begun({.candidates = 2, .alpha = 0.6f, .max_new_tokens = 1});
  move = shorter.advance(rows);
  CHECK(move.token->token == 2);
  CHECK(move.end == sequence_end::length);
}

TEST_CASE("hidden states that come a second time are not remembered twice",
          "[actors][contrastive_search]") {
  contrastive_search s{{.candidates = 2, .max_new_tokens = 1}};
  CHECK(s.wants_prompt_hidden());
  s.take_hidden(0, 2, std::vector<float>{1, 0, 0, 1});
  s.take_hidden(0, 3, std::vector<float>{1, 0, 0, 1, 1, 1});
  CHECK(s.known() == 3);
  CHECK(s.wants().scores == candidate_scores::probabilities);
  CHECK(s.wants().hidden_state);
}
