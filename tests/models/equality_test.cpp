#include <catch2/catch.hpp>

#include <random>

#include "golden.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

/// Prompts of many lengths, among them some longer than a window and than a block.
std::vector<generation> mixed_prompts(size_t count, uint32_t longest, uint32_t seed) {
  std::mt19937 random{seed};
  std::vector<generation> all(count);
  for (auto& g : all) {
    // Short ones are the more frequent.
    const auto length = 1 + random() % (1 + random() % longest);
    for (uint32_t i = 0; i < length; ++i)
      g.prompt.push_back(static_cast<int32_t>(3 + random() % 256));
    g.new_tokens = 1 + random() % 6;
    g.prompt_logprobs = random() % 2 == 0;
    g.top_n = random() % 3;
    g.hidden_state = random() % 4 == 0;
    if (random() % 3 == 0) {
      g.sampling.sample = true;
      g.sampling.seed = random();
      g.sampling.temperature = 0.9f;
      g.sampling.top_p = 0.95f;
      g.sampling.repetition_penalty = 1.1f;
    }
  }
  return all;
}

std::vector<generated> alone(stage_driver& driver, const std::vector<generation>& all) {
  std::vector<generated> results;
  for (const auto& g : all)
    results.push_back(driver.run_alone(g));
  return results;
}

void check_manners(const std::string& model) {
  const auto requests = mixed_prompts(8, 300, 7);
  stage_driver driver{golden_options(model)};
  const auto expected = alone(driver, requests);
  for (uint32_t chunk : {1U, 7U, 16U, 33U, 512U}) {
    INFO(model << ", chunks of " << chunk);
    CHECK(driver.run(requests, {.chunk = chunk}) == expected);
  }
  CHECK(driver.run(requests, {.chunk = 33, .step_tokens = 50, .shuffle_blocks = true}) == expected);
  CHECK(driver.run(requests, {.chunk = 64, .shuffle_blocks = true, .preempt_every = 3}) ==
        expected);
}

void check_shards(const std::string& model, uint32_t shards, const std::string& type = "") {
  const auto requests = mixed_prompts(8, 300, 8);
  auto options = golden_options(model);
  options.dtype = type;
  stage_driver one{options};
  options.shards = shards;
  options.cpu_threads = 2;
  stage_driver many{options};
  REQUIRE(many.plan().stages.size() == shards);
  INFO(model << " on " << shards << " shards");
  CHECK(many.run(requests, {.chunk = 40}) == one.run(requests));
}

} // namespace

TEST_CASE("Llama's bits do not depend on chunks, neighbours, block numbers or preemption",
          "[models][equality]") {
  check_manners("llama");
}
TEST_CASE("Mistral's bits do not depend on chunks, neighbours, block numbers or preemption",
          "[models][equality]") {
  check_manners("mistral");
}
TEST_CASE("Qwen3's bits do not depend on chunks, neighbours, block numbers or preemption",
          "[models][equality]") {
  check_manners("qwen3");
}
TEST_CASE("GPT-2's bits do not depend on chunks, neighbours, block numbers or preemption",
          "[models][equality]") {
  check_manners("gpt2");
}

TEST_CASE("the bits are the same on 1, 2 and 3 shards", "[models][equality]") {
  for (uint32_t shards : {2U, 3U}) {
    check_shards("llama", shards);
    check_shards("qwen2-window", shards);
    check_shards("gpt2", shards);
  }
  check_shards("llama", 3, "bf16");
}

TEST_CASE("200 mixed prompts give the same bits alone and side by side", "[models][equality]") {
  const auto requests = mixed_prompts(200, 150, 9);
  stage_driver driver{golden_options("llama")};
  const auto together =
      driver.run(requests, {.chunk = 33, .step_tokens = 100, .shuffle_blocks = true});
  const auto apart = alone(driver, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    INFO("prompt " << i);
    REQUIRE(together[i] == apart[i]);
  }
}

TEST_CASE("more threads and other block sizes change no bit", "[models][equality]") {
  const auto requests = mixed_prompts(6, 200, 10);
  auto options = golden_options("llama");
  stage_driver one{options};
  const auto expected = one.run(requests);
  options.cpu_threads = 3;
  stage_driver three{options};
  CHECK(three.run(requests) == expected);
  for (uint32_t size : {8U, 32U}) {
    options.kv_block_tokens = size;
    stage_driver other{options};
    CHECK(other.run(requests) == expected);
  }
}

TEST_CASE("blocks shared as a prefix, copied and swapped give the same bits",
          "[models][equality]") {
  stage_driver driver{golden_options("llama")};
  generation g;
  for (int32_t i = 0; i < 40; ++i)
    g.prompt.push_back(3 + i * 7 % 250);
  g.new_tokens = 1;
  const auto expected = driver.run_alone(g);

  const auto start = [&](step& s, uint64_t id) {
    sequence_start st;
    st.sequence = sequence_id{id};
    st.prompt_length = 40;
    st.history = g.prompt;
    s.starts.push_back(st);
  };
  const auto row = [&](step& s, uint64_t id, uint32_t from, uint32_t to,
                       std::vector<uint32_t> blocks) {
    step_row r{.sequence = sequence_id{id},
               .position = from,
               .first_token = static_cast<uint32_t>(s.tokens.size()),
               .token_count = to - from,
               .first_block = static_cast<uint32_t>(s.blocks.size()),
               .block_count = static_cast<uint32_t>(blocks.size()),
               .wants = {}};
    r.wants.sample = to == 40;
    for (auto b : blocks)
      s.blocks.push_back(block_id{b});
    s.tokens.insert(s.tokens.end(), g.prompt.begin() + from, g.prompt.begin() + to);
    s.rows.push_back(r);
  };
  step first;
  start(first, 900);
  row(first, 900, 0, 40, {100, 101, 102});
  REQUIRE(driver.forward(first));

  step shared; // Both full blocks of the other sequence, then own ones.
  start(shared, 901);
  row(shared, 901, 32, 40, {100, 101, 103});
  auto answer = driver.forward(shared);
  REQUIRE(answer);
  CHECK(answer->rows[0].token == expected.tokens[0]);
  CHECK(answer->rows[0].logprob == expected.logprobs[0]);

  step swapped; // A block goes out and comes back elsewhere, another is copied.
  swapped.swaps_out.push_back({block_id{100}, block_id{5}});
  swapped.swaps_in.push_back({block_id{110}, block_id{5}});
  swapped.copies.push_back({block_id{101}, block_id{111}});
  swapped.dropped = {sequence_id{900}, sequence_id{901}};
  start(swapped, 902);
  row(swapped, 902, 32, 40, {110, 111, 112});
  answer = driver.forward(swapped);
  REQUIRE(answer);
  CHECK(answer->rows[0].logprob == expected.logprobs[0]);
}

TEST_CASE("a bad row is that row's fault and changes no neighbour's bit", "[models][faults]") {
  auto requests = mixed_prompts(5, 60, 11);
  for (uint32_t shards : {1U, 2U}) {
    auto options = golden_options("llama");
    options.shards = shards;
    stage_driver driver{options};
    const auto expected = driver.run(requests);
    auto poisoned = requests;
    poisoned[1].prompt[0] = 259;
    poisoned[3].prompt.back() = -1;
    const auto got = driver.run(poisoned, {.chunk = 20});
    CHECK(got[1].fault.find("token 259 is not in the vocabulary") != std::string::npos);
    CHECK(got[3].fault.find("token -1") != std::string::npos);
    for (size_t i : {0U, 2U, 4U})
      CHECK(got[i] == expected[i]);
  }
}

TEST_CASE("rows that make no sense are row faults", "[models][faults]") {
  auto options = golden_options("llama");
  options.max_model_len = 64;
  stage_driver driver{options};
  const auto fault = [&](auto change) {
    step s;
    sequence_start st;
    st.sequence = sequence_id{driver.next_id()};
    st.history = {5, 6, 7};
    st.prompt_length = 3;
    s.starts.push_back(st);
    s.tokens = {5, 6, 7};
    s.blocks = {block_id{0}};
    step_row r{.sequence = st.sequence, .token_count = 3, .block_count = 1, .wants = {}};
    r.wants.sample = true;
    s.rows.push_back(r);
    change(s, s.rows[0]);
    auto answer = driver.forward(s);
    REQUIRE(answer);
    REQUIRE(answer->rows.size() == 1);
    return answer->rows[0].fault == ec::none ? "" : answer->rows[0].fault_text;
  };
  CHECK(fault([](step&, step_row&) {}) == "");
  CHECK(fault([](step&, step_row& r) { r.sequence = sequence_id{999}; }) ==
        "the sequence was never introduced");
  CHECK(fault([](step&, step_row& r) { r.token_count = 0; }) == "the row feeds no tokens");
  CHECK(fault([](step&, step_row& r) { r.first_token = 1; }) ==
        "the row's tokens lie outside of the step");
  CHECK(fault([](step&, step_row& r) { r.first_token = UINT32_MAX; }) != "");
  CHECK(fault([](step&, step_row& r) { r.position = 62; }) ==
        "position 64 lies beyond the context of 64 tokens");
  CHECK(fault([](step&, step_row& r) { r.position = UINT32_MAX; }) != "");
  CHECK(fault([](step&, step_row& r) { r.position = 14; }) == "position 16 has no KV block");
  CHECK(fault([](step&, step_row& r) { r.block_count = 2; }) == "position 2 has no KV block");
  CHECK(fault([](step& s, step_row&) { s.blocks[0] = block_id{1U << 31}; }).find("that exist") !=
        std::string::npos);
}

TEST_CASE("an activation that belongs to another step fails the step, and the stage goes on",
          "[models][faults]") {
  auto options = golden_options("llama");
  options.shards = 2;
  stage_driver driver{options};
  generation g;
  g.prompt = {10, 20, 30};
  g.new_tokens = 3;
  const auto expected = driver.run_alone(g);
  step s;
  sequence_start st;
  st.sequence = sequence_id{500};
  st.history = g.prompt;
  st.prompt_length = 3;
  s.starts.push_back(st);
  s.tokens = g.prompt;
  s.blocks = {block_id{7}};
  s.rows.push_back({.sequence = st.sequence, .token_count = 3, .block_count = 1, .wants = {}});
  auto wrong = driver.stage(1).forward(
      s, models::activation::from_bytes(models::dtype::fp32, 2, 64,
                                        std::vector<std::byte>(2 * 64 * 4)));
  REQUIRE(!wrong);
  CHECK(code_of(wrong.error()) == ec::step_fault);
  CHECK(!driver.stage(1).forward(s, {}));
  driver.stage(0).skip(s);
  CHECK(driver.run_alone(g) == expected);
}

namespace {

/// The hidden states of every position of a prompt, computed in rows of so many tokens.
std::vector<float> hidden_states(stage_driver& driver, const std::vector<int32_t>& prompt,
                                 size_t row_tokens, bool embeddings) {
  const sequence_id id{driver.next_id()};
  std::vector<float> all;
  for (size_t at = 0; at < prompt.size(); at += row_tokens) {
    step s;
    s.id = step_id{driver.next_id() + 1000};
    const auto count = std::min(row_tokens, prompt.size() - at);
    s.tokens.assign(prompt.begin() + static_cast<ptrdiff_t>(at),
                    prompt.begin() + static_cast<ptrdiff_t>(at + count));
    step_row row;
    row.sequence = id;
    row.position = static_cast<uint32_t>(at);
    row.token_count = static_cast<uint32_t>(count);
    row.wants.hidden_state = row.wants.all_hidden = true;
    row.wants.embeddings = embeddings;
    if (at == 0) {
      s.starts.push_back({id, static_cast<uint32_t>(prompt.size()), prompt, {}, 0});
      for (uint32_t b = 0; b < 4; ++b)
        s.blocks.push_back(block_id{b});
      row.block_count = 4;
    }
    s.rows.push_back(row);
    auto result = driver.forward(s);
    REQUIRE(result);
    REQUIRE(result->rows[0].fault == ec::none);
    all.insert(all.end(), result->rows[0].hidden.begin(), result->rows[0].hidden.end());
  }
  step s;
  s.id = step_id{driver.next_id() + 1000};
  s.dropped.push_back(id);
  CHECK(driver.forward(s));
  return all;
}

} // namespace

TEST_CASE("a row tells the hidden states of all its positions, whatever its length",
          "[models][equality]") {
  const auto shards = GENERATE(1u, 2u);
  auto options = golden_options("llama");
  options.shards = shards;
  stage_driver driver{options};
  const std::vector<int32_t> prompt{9, 8, 7, 9, 8, 7, 50, 9};
  const auto one_by_one = hidden_states(driver, prompt, 1, false);
  const size_t width = driver.plan().info.hidden;
  REQUIRE(one_by_one.size() == prompt.size() * width);
  CHECK(hidden_states(driver, prompt, 8, false) == one_by_one);
  CHECK(hidden_states(driver, prompt, 3, false) == one_by_one);
  const auto last =
      driver.run_alone({.prompt = prompt, .new_tokens = 1, .hidden_state = true, .sampling = {}});
  CHECK(std::equal(last.hidden.begin(), last.hidden.end(),
                   one_by_one.end() - static_cast<ptrdiff_t>(width)));
}

TEST_CASE("embeddings are told by a model in one piece only", "[models][equality]") {
  auto options = golden_options("llama");
  stage_driver driver{options};
  const std::vector<int32_t> prompt{9, 8, 7, 9};
  const auto told = hidden_states(driver, prompt, 4, true);
  const auto width = static_cast<ptrdiff_t>(driver.plan().info.hidden);
  // Llama's know no position: equal tokens are equal.
  CHECK(std::equal(told.begin(), told.begin() + width, told.end() - width));
  CHECK(!std::equal(told.begin(), told.begin() + width, told.begin() + width));
  CHECK(told != hidden_states(driver, prompt, 4, false));

  options.shards = 2;
  stage_driver spread{options};
  step s;
  s.id = step_id{1};
  s.tokens = {9};
  step_row row;
  row.sequence = sequence_id{1};
  row.token_count = row.block_count = 1;
  row.wants.hidden_state = row.wants.embeddings = true;
  s.rows.push_back(row);
  s.blocks = {block_id{0}};
  s.starts.push_back({row.sequence, 1, {9}, {}, 0});
  auto result = spread.forward(s);
  REQUIRE(result);
  CHECK(result->rows[0].fault == ec::invalid_request);
  CHECK(result->rows[0].fault_text.find("contrastive_hidden") != std::string::npos);
}
