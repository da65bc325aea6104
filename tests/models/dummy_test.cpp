#include <catch2/catch.hpp>

#include "stage_driver.hpp"
#include "troupe/models/dummy/dummy_model.hpp"

using namespace troupe;
using namespace troupe::models;
using namespace troupe::test;

namespace {

load_options dummy_options(uint32_t shards = 1) {
  load_options options;
  options.dummy = true;
  options.shards = shards;
  return options;
}

generation say(const std::string& text, uint32_t tokens) {
  generation g;
  g.prompt.assign(text.begin(), text.end());
  g.new_tokens = tokens;
  return g;
}

std::vector<int32_t> expected_tokens(const generation& g) {
  auto history = g.prompt;
  for (uint32_t i = 0; i < g.new_tokens; ++i)
    history.push_back(dummy_next_token(history));
  return {history.begin() + static_cast<ptrdiff_t>(g.prompt.size()), history.end()};
}

} // namespace

TEST_CASE("the dummy model writes the text its history asks for, however it is run",
          "[models][dummy]") {
  const std::vector<generation> requests = {say("a", 50), say("Hello, how are you?", 40),
                                            say(std::string(100, 'x'), 30)};
  for (uint32_t shards : {1U, 2U, 3U, 5U}) {
    stage_driver driver{dummy_options(shards)};
    CHECK(driver.plan().info.vocabulary == 259);
    for (uint32_t chunk : {1U, 7U, 512U}) {
      const auto got =
          driver.run(requests, {.chunk = chunk, .shuffle_blocks = true, .preempt_every = 5});
      for (size_t i = 0; i < requests.size(); ++i) {
        CHECK(got[i].tokens == expected_tokens(requests[i]));
        for (auto t : got[i].tokens)
          CHECK((t == ' ' || (t >= 'a' && t <= 'z')));
      }
    }
  }
}

TEST_CASE("the dummy model notices a block that is not the sequence's own", "[models][dummy]") {
  stage_driver driver{dummy_options()};
  const auto g = say("abcdefghijklmnopqrstuvwxyz", 1);
  step s;
  sequence_start st;
  st.sequence = sequence_id{1};
  st.history = g.prompt;
  st.prompt_length = 26;
  s.starts.push_back(st);
  s.tokens = {g.prompt.begin() + 18, g.prompt.end()};
  s.blocks = {block_id{3}, block_id{4}};
  step_row r{
      .sequence = st.sequence, .position = 18, .token_count = 8, .block_count = 2, .wants = {}};
  r.wants.sample = true;
  s.rows.push_back(r);
  CHECK(driver.forward(s)->rows[0].token ==
        dummy_next_token(g.prompt)); // the last four were fed just now
  step more; // the first three of the last four are read from a foreign block
  st.sequence = sequence_id{2};
  more.starts.push_back(st);
  more.tokens = {g.prompt.back()};
  more.blocks = {block_id{9}, block_id{10}};
  more.rows.push_back({.sequence = st.sequence,
                       .position = 25,
                       .token_count = 1,
                       .block_count = 2,
                       .wants = r.wants});
  CHECK(driver.forward(more)->rows[0].token != dummy_next_token(g.prompt));
}

TEST_CASE("the dummy model provokes the faults that a test orders", "[models][dummy]") {
  auto faults = std::make_shared<dummy_faults>();
  stage_driver driver{*plan_dummy(dummy_options(2), faults)};
  const auto g = say("hello", 5);
  const auto expected = driver.run_alone(g);

  faults->throw_after_steps = 2;
  faults->throw_in_stage = 1;
  CHECK_THROWS_WITH(driver.run_alone(g), Catch::Contains("ordered an exception"));
  CHECK(driver.run_alone(g) == expected); // once only

  faults->lose_stage = 0;
  CHECK_THROWS_WITH(driver.run_alone(g), Catch::Contains("stage's loss"));
  CHECK(driver.run_alone(g) == expected);

  faults->faulty_token = 'h';
  CHECK(driver.run({g, say("abc", 5)}).at(0).fault.find("token 104") != std::string::npos);
  faults->faulty_token = -1;

  faults->poison_token = 'h';
  CHECK_THROWS(driver.run_alone(g));
  faults->poison_token = -1;

  faults->eos_at_length = 8;
  CHECK(driver.run_alone(g).tokens.at(2) == dummy_eos);
  CHECK(driver.run_alone(g).tokens.at(1) != dummy_eos);
}

TEST_CASE("the dummy model answers everything that a row can want", "[models][dummy]") {
  stage_driver driver{dummy_options()};
  auto g = say("hello", 2);
  g.prompt_logprobs = true;
  g.top_n = 3;
  g.hidden_state = true;
  const auto got = driver.run_alone(g);
  REQUIRE(got.prompt.size() == 4);
  CHECK(got.prompt[0].token == 'e');
  CHECK(got.prompt_top[0].size() == 3);
  CHECK(got.logprobs.at(0) < 0);
  CHECK(!got.hidden.empty());
}
