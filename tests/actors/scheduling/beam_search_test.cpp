#include <catch2/catch.hpp>

#include <cmath>
#include <map>

#include "troupe/actors/scheduling/beam_search.hpp"

using namespace troupe;
using namespace troupe::scheduling;

namespace {

constexpr int32_t eos = 9;

row_result row_of(std::vector<token_value> candidates) {
  row_result row;
  row.candidates = std::move(candidates);
  for (const auto& c : row.candidates)
    row.candidate_logprobs.push_back(c.value - 1);
  return row;
}

search_move advance(beam_search& s, std::vector<row_result> rows) {
  return s.advance(rows);
}

beam_search::rules two_beams() {
  return {.beams = 2, .returned = 2, .ends = {eos}, .max_new_tokens = 4};
}

std::vector<int32_t> tokens_of(const sequence_output& output) {
  std::vector<int32_t> tokens;
  for (const auto& token : output.tokens)
    tokens.push_back(token.token);
  return tokens;
}

} // namespace

TEST_CASE("beams go on from the best sums, whichever beam they come from",
          "[actors][beam_search]") {
  beam_search s{two_beams()};
  CHECK(s.wants().candidates == 4);
  auto move = advance(s, {row_of({{1, -1}, {2, -2}, {3, -5}, {4, -6}})});
  CHECK(move.lanes == std::vector<lane_step>{{0, 1}, {0, 2}});
  // Both continuations of the second are better than any of the first.
  move = advance(s, {row_of({{5, -4}, {6, -5}}), row_of({{7, -0.5f}, {8, -1}})});
  CHECK(move.lanes == std::vector<lane_step>{{1, 7}, {1, 8}});
  CHECK(!move.end);
}

TEST_CASE("equal sums go to the lower beam, then to the lower id", "[actors][beam_search]") {
  beam_search s{two_beams()};
  auto move = advance(s, {row_of({{4, -1}, {2, -1}, {3, -1}})});
  CHECK(move.lanes == std::vector<lane_step>{{0, 2}, {0, 3}});
  move = advance(s, {row_of({{6, -1}}), row_of({{5, -1}})});
  CHECK(move.lanes == std::vector<lane_step>{{0, 6}, {1, 5}});
}

TEST_CASE("an end among the best as many as beams is a finished sequence, a lesser one is nothing",
          "[actors][beam_search]") {
  auto rules = two_beams();
  rules.max_new_tokens = 1;
  beam_search among{rules};
  auto move = advance(among, {row_of({{1, -1}, {eos, -2}, {2, -3}, {3, -4}})});
  CHECK(move.end == sequence_end::length);
  auto found = among.outputs();
  REQUIRE(found.size() == 2);
  CHECK(tokens_of(found[0]) == std::vector<int32_t>{1});
  CHECK(tokens_of(found[1]) == std::vector<int32_t>{eos});
  CHECK(found[1].score == -2);
  CHECK(found[1].tokens[0].logprob == -3);

  beam_search beyond{rules};
  advance(beyond, {row_of({{1, -1}, {2, -2}, {eos, -3}, {3, -4}})});
  found = beyond.outputs();
  REQUIRE(found.size() == 2);
  CHECK(tokens_of(found[1]) == std::vector<int32_t>{2});
}

TEST_CASE("the length penalty decides between a short and a long sequence",
          "[actors][beam_search]") {
  auto best_with = [](double penalty) {
    auto rules = two_beams();
    rules.max_new_tokens = 2;
    rules.length_penalty = penalty;
    beam_search s{rules};
    advance(s, {row_of({{1, -1}, {eos, -1.5f}, {2, -3}, {3, -9}})});
    advance(s, {row_of({{4, -1}, {5, -8}}), row_of({{6, -9}, {7, -9}})});
    return tokens_of(s.outputs().front());
  };
  CHECK(best_with(0) == std::vector<int32_t>{eos});
  CHECK(best_with(1) == std::vector<int32_t>{1, 4});
}

TEST_CASE("early_stopping says when beams that still run are given up", "[actors][beam_search]") {
  // Two sequences end in the second round, while a beam runs that is not much behind them.
  auto rounds_with = [](early_stopping stopping, double penalty) {
    auto rules = two_beams();
    rules.stopping = stopping;
    rules.length_penalty = penalty;
    rules.max_new_tokens = 6;
    beam_search s{rules};
    auto move = advance(s, {row_of({{1, -1}, {2, -1.1f}, {3, -8}, {4, -9}})});
    move = advance(s, {row_of({{eos, -0.5f}, {5, -0.9f}, {6, -7}, {7, -9}}),
                       row_of({{eos, -0.6f}, {8, -4}, {6, -7}, {7, -9}})});
    uint32_t rounds = 2;
    while (!move.end) {
      std::vector<row_result> rows;
      for (size_t i = 0; i < move.lanes.size(); ++i)
        rows.push_back(row_of({{5, -0.1f}, {6, -3}, {7, -4}, {8, -5}}));
      move = s.advance(rows);
      ++rounds;
    }
    return rounds;
  };
  CHECK(rounds_with(early_stopping::yes, 1) == 2);
  // -1.9 / 2 could only get worse at a fixed length, but -1.9 / 6 is better than -1.7 / 2.
  CHECK(rounds_with(early_stopping::no, 1) == 6);
  CHECK(rounds_with(early_stopping::never, 1) == 6);
  // Without a penalty sums alone count, and they only fall.
  CHECK(rounds_with(early_stopping::no, 0) == 3);
  CHECK(rounds_with(early_stopping::never, 0) == 3);
}

TEST_CASE("beams that sample are chosen by their keys and told by their sums",
          "[actors][beam_search]") {
  beam_search s{two_beams()};
  auto row = row_of({{1, -5}, {2, -1}, {3, -2}, {4, -3}});
  row.candidate_keys = {3, 2, 1, 0};
  auto move = advance(s, {row});
  CHECK(move.lanes == std::vector<lane_step>{{0, 2}, {0, 3}});
}

TEST_CASE("a beam whose every continuation is masked is given up, and so is the search",
          "[actors][beam_search]") {
  beam_search s{two_beams()};
  auto move = advance(s, {row_of({{1, -1}, {2, -2}})});
  move = advance(s, {row_of({}), row_of({{3, -1}})});
  CHECK(move.lanes == std::vector<lane_step>{{1, 3}});
  move = advance(s, {row_of({})});
  CHECK(move.end);
  CHECK(s.outputs().empty());
}

TEST_CASE("each token brings its alternatives, itself among them", "[actors][beam_search]") {
  auto rules = two_beams();
  rules.top_n = 1;
  rules.max_new_tokens = 1;
  beam_search s{rules};
  auto row = row_of({{1, -1}, {2, -2}, {3, -3}, {4, -4}});
  row.top = {{1, -2}};
  advance(s, {row});
  const auto found = s.outputs();
  REQUIRE(found.size() == 2);
  CHECK(found[0].tokens[0].top == std::vector<token_value>{{1, -2}});
  CHECK(found[1].tokens[0].top == std::vector<token_value>{{1, -2}, {2, -3}});
}

namespace {

/// Ends with one token behind another.
class pair_text final : public watched_text {
public:
  pair_text(int32_t first, int32_t second, int32_t last = -1, bool stopped = false)
      : first_(first), second_(second), last_(last), stopped_(stopped) {}
  watched_text_ptr after(int32_t token) const override {
    const bool ends = last_ == first_ && token == second_;
    return std::make_shared<pair_text>(first_, second_, token, stopped_ || ends);
  }
  bool stopped() const override { return stopped_; }

private:
  int32_t first_, second_, last_;
  bool stopped_;
};

} // namespace

TEST_CASE("a stop string ends its beam as an end token would", "[actors][beam_search]") {
  auto watch = std::make_shared<search_watch>();
  watch->text = std::make_shared<pair_text>(1, 5);
  auto rules = two_beams();
  rules.watch = watch;
  beam_search s{rules};
  advance(s, {row_of({{1, -1}, {5, -2}, {3, -3}, {4, -4}})});
  // Behind 1 the 5 completes the string, behind 5 it does not.
  auto move = advance(s, {row_of({{5, -1}, {6, -4}}), row_of({{5, -1}, {7, -4}})});
  CHECK(move.lanes == std::vector<lane_step>{{1, 5}, {0, 6}});
  CHECK(!move.end);
  move = advance(s, {row_of({{8, -9}, {6, -9}}), row_of({{8, -9}, {6, -9}})});
  move = advance(s, {row_of({{8, -9}, {6, -9}}), row_of({{8, -9}, {6, -9}})});
  CHECK(move.end == sequence_end::length);
  auto found = s.outputs();
  REQUIRE(!found.empty());
  CHECK(tokens_of(found[0]) == std::vector<int32_t>{1, 5});
  CHECK(found[0].score == -1); // -2 over two tokens
}

TEST_CASE("when the time is up the running beams are what was found", "[actors][beam_search]") {
  auto watch = std::make_shared<search_watch>();
  auto rules = two_beams();
  rules.watch = watch;
  beam_search s{rules};
  auto move = advance(s, {row_of({{1, -1}, {2, -2}, {3, -3}, {4, -4}})});
  CHECK(!move.end);
  watch->time_is_up = true;
  move = advance(s, {row_of({{5, -1}, {6, -9}}), row_of({{7, -1}, {8, -9}})});
  CHECK(move.end == sequence_end::length);
  CHECK(move.lanes.empty());
  auto found = s.outputs();
  REQUIRE(found.size() == 2);
  CHECK(tokens_of(found[0]) == std::vector<int32_t>{1, 5});
  CHECK(tokens_of(found[1]) == std::vector<int32_t>{2, 7});
}

TEST_CASE("a group of beams pays for what groups before it chose", "[actors][beam_search]") {
  auto rules = two_beams();
  rules.groups = 2;
  rules.diversity_penalty = 3;
  beam_search s{rules};
  CHECK(s.wants().candidates == 3); // Two of its own, and one that the other group may take.
  auto move = advance(s, {row_of({{1, -1}, {2, -2}, {3, -5}})});
  CHECK(move.lanes == std::vector<lane_step>{{0, 1}, {0, 2}});
  // Each goes on from its own beam, whichever is better.
  move = advance(s, {row_of({{4, -1}, {5, -2}}), row_of({{4, -1}, {5, -5}})});
  CHECK(move.lanes == std::vector<lane_step>{{0, 4}, {1, 4}});
  // The first group is over with its only beam; the second goes on alone.
  rules.stopping = early_stopping::yes;
  beam_search ends{rules};
  advance(ends, {row_of({{1, -1}, {2, -2}, {3, -5}})});
  move = advance(ends, {row_of({{eos, -1}, {5, -2}}), row_of({{6, -1}, {7, -5}})});
  CHECK(move.lanes == std::vector<lane_step>{{1, 6}});
  move = advance(ends, {row_of({{eos, -1}, {5, -2}})});
  CHECK(move.end == sequence_end::stop_token);
  auto found = ends.outputs();
  REQUIRE(found.size() == 2);
  CHECK(tokens_of(found[0]) == std::vector<int32_t>{1, eos});
  CHECK(tokens_of(found[1]) == std::vector<int32_t>{2, 6, eos});
}
