#include "rig.hpp"

#include <bit>
#include <random>

using namespace troupe;
using test::rig;

/// The policy on a real (tiny) model: however it schedules, no bit of an answer changes.
namespace {

models::model_plan plan(uint32_t shards, uint32_t block_tokens = 16) {
  models::load_options options;
  options.folder = std::string{TROUPE_GOLDEN_DIR} + "/models/llama";
  options.shards = shards;
  options.cpu_threads = 1;
  options.max_model_len = 256;
  options.kv_block_tokens = block_tokens;
  options.max_step_tokens = 512;
  options.kv_cache_bytes = 8 << 20;
  auto made = models::plan_model(options);
  INFO((made ? std::string{} : text_of(made.error())));
  REQUIRE(made);
  return std::move(*made);
}

std::vector<std::unique_ptr<models::stage>> load(const models::model_plan& p) {
  std::vector<std::unique_ptr<models::stage>> stages;
  for (auto& make : p.stages) {
    auto stage = make([](uint64_t, uint64_t) {});
    REQUIRE(stage);
    stages.push_back(std::move(*stage));
  }
  return stages;
}

scheduling::batching_limits limits_for(const models::model_plan& p, uint32_t chunk) {
  scheduling::batching_limits l;
  l.max_step_tokens = chunk;
  l.max_sequences = 16;
  l.max_waiting = 1000;
  l.blocks = p.kv_blocks;
  l.block_tokens = p.kv_block_tokens;
  return l;
}

/// Greedy and drawn, short and long, some with a common beginning.
std::vector<new_sequence> mixed_prompts(size_t count) {
  std::mt19937 random{5};
  std::vector<int32_t> system(70);
  for (auto& t : system)
    t = static_cast<int32_t>(3 + random() % 250);
  std::vector<new_sequence> result;
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> prompt;
    if (i % 3 == 0)
      prompt = system;
    auto own = 1 + random() % (i % 10 == 0 ? 120 : 30);
    for (size_t j = 0; j < own; ++j)
      prompt.push_back(static_cast<int32_t>(3 + random() % 250));
    auto s =
        rig::make(std::move(prompt), static_cast<uint32_t>(2 + random() % (i % 5 == 0 ? 40 : 10)));
    s.wants.prompt_logprobs = i % 7 == 0;
    s.sampling.sample = i % 2 == 0;
    s.sampling.seed = i;
    s.sampling.temperature = 0.8f;
    s.sampling.top_k = 40;
    if (i % 4 == 0)
      s.sampling.repetition_penalty = 1.2f;
    result.push_back(std::move(s));
  }
  return result;
}

struct answer {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> bits; ///< Of the log-probabilities, the prompt's included.
  bool operator==(const answer&) const = default;
};

answer answer_of(const rig::record& r) {
  CHECK(!r.fault);
  CHECK(r.end == sequence_end::length);
  answer a;
  a.tokens = r.tokens;
  for (auto x : r.prompt_logprobs)
    a.bits.push_back(std::bit_cast<uint32_t>(x));
  for (auto x : r.logprobs)
    a.bits.push_back(std::bit_cast<uint32_t>(x));
  return a;
}

/// Each sequence alone, in one piece, on one shard, nothing cached.
const std::vector<answer>& alone() {
  static const auto answers = [] {
    std::vector<answer> result;
    auto p = plan(1);
    auto limits = limits_for(p, 512);
    limits.prefix_cache = false;
    rig r{limits, load(p)};
    for (auto& s : mixed_prompts(200)) {
      auto id = r.submit(s);
      r.run();
      result.push_back(answer_of(r.records.at(id)));
    }
    return result;
  }();
  return answers;
}

} // namespace

TEST_CASE(
    "200 mixed prompts get the same bits in any chunks, on any number of shards, ahead or not",
    "[actors][batching][equality]") {
  auto [chunk, shards, ahead] = GENERATE(table<uint32_t, uint32_t, bool>({{1, 1, false},
                                                                          {7, 1, false},
                                                                          {16, 2, false},
                                                                          {33, 3, false},
                                                                          {512, 1, false},
                                                                          {512, 2, false},
                                                                          {512, 3, false},
                                                                          {7, 1, true},
                                                                          {512, 1, true}}));
  auto p = plan(shards);
  auto limits = limits_for(p, chunk);
  limits.ahead = ahead;
  rig r{limits, load(p)};
  std::vector<sequence_id> ids;
  for (auto& s : mixed_prompts(200))
    ids.push_back(r.submit(s));
  r.run();
  uint32_t cached = 0;
  size_t unlike = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    cached += r.records.at(ids[i]).cached;
    unlike += answer_of(r.records.at(ids[i])) != alone()[i];
  }
  CHECK(unlike == 0);
  CHECK(cached > 1000); // prefix hits were among them
  r.expect_empty();
}

TEST_CASE("forced preemption changes no bit, by way of host memory or not",
          "[actors][batching][equality]") {
  auto [shards, ahead, host_blocks] = GENERATE(table<uint32_t, bool, uint32_t>({{1, false, 0},
                                                                                {2, false, 0},
                                                                                {1, true, 0},
                                                                                {1, false, 100},
                                                                                {2, false, 12},
                                                                                {1, true, 100}}));
  auto p = plan(shards, 8);
  auto limits = limits_for(p, 33);
  limits.ahead = ahead;
  limits.blocks = 30;
  limits.swap = {.host_blocks = host_blocks, .block_ns = [] { return 1.0; }};
  rig r{limits, load(p)};
  r.step_ns = [](const step& s) { return s.tokens.size() * 1'000'000; };
  std::vector<sequence_id> ids;
  for (auto& s : mixed_prompts(200))
    ids.push_back(r.submit(s));
  r.run();
  CHECK(r.policy.counts().preemptions > 0);
  CHECK((r.policy.counts().swaps_in > 0) == (host_blocks > 0));
  size_t unlike = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    unlike += answer_of(r.records.at(ids[i])) != alone()[i];
  CHECK(unlike == 0);
  r.expect_empty();
}

TEST_CASE("loss of all KV in the middle changes no bit", "[actors][batching][equality]") {
  auto p = plan(2);
  rig r{limits_for(p, 64), load(p)};
  std::vector<sequence_id> ids;
  for (auto& s : mixed_prompts(60))
    ids.push_back(r.submit(s));
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 12; ++i) {
      while (r.launch()) {
      }
      r.land();
    }
    r.flying.clear();
    r.policy.lose_all();
    r.check();
    r.stages = load(p);
    r.pipe.open(epoch_id{static_cast<uint32_t>(round) + 2}, 2);
  }
  r.run();
  CHECK(r.policy.counts().replays > 0);
  size_t unlike = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    unlike += answer_of(r.records.at(ids[i])) != alone()[i];
  CHECK(unlike == 0);
}
