#include <atomic>
#include <cmath>
#include <cstdlib>
#include <random>

#include <catch2/catch.hpp>

#include "../../golden.hpp"
#include "troupe/models/device_library.hpp"

/// The backend of GPUs on emulated ones: everything but the kernels is what runs on real ones. With
/// TROUPE_CUDA_LIBRARY set to the real library the same holds for these.
using namespace troupe;
using namespace troupe::test;

namespace {

const char* const golden_models[] = {"gpt2",         "llama",        "llama-bias", "llama-dynamic",
                                     "llama-yarn",   "llama-llama3", "mistral",    "qwen2",
                                     "qwen2-window", "qwen3"};

models::load_options device_options(const std::string& model, const std::string& type = "fp32",
                                    uint32_t shards = 1) {
  ::setenv("TROUPE_CUDA_LIBRARY", TROUPE_EMULATED_LIBRARY, 0);
  auto options = golden_options(model);
  options.devices = "*";
  options.dtype = type;
  options.shards = shards;
  options.max_step_tokens = 512;
  return options;
}

std::vector<generation> mixed_requests(uint32_t seed) {
  std::mt19937 random{seed};
  std::vector<generation> all(7);
  for (auto& g : all) {
    const auto length = 1 + random() % 90;
    for (uint32_t i = 0; i < length; ++i)
      g.prompt.push_back(static_cast<int32_t>(3 + random() % 256));
    g.new_tokens = 2 + random() % 9;
    g.prompt_logprobs = random() % 2 == 0;
    g.top_n = random() % 3;
    g.hidden_state = random() % 4 == 0;
    if (random() % 2 == 0) {
      g.sampling.sample = true;
      g.sampling.seed = random();
      g.sampling.temperature = 0.9f;
      g.sampling.top_p = 0.95f;
      g.sampling.top_k = 40;
      g.sampling.repetition_penalty = 1.1f;
      g.sampling.frequency_penalty = 0.3f;
    }
    if (random() % 4 == 0)
      g.sampling.no_repeat_ngram_size = 2; // Which only the host can do.
  }
  return all;
}

void check_close(const generated& expected, const generated& got) {
  CHECK(got.tokens == expected.tokens);
  CHECK(got.fault == expected.fault);
  REQUIRE(got.logprobs.size() == expected.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i)
    CHECK(std::abs(got.logprobs[i] - expected.logprobs[i]) < 2e-4);
  REQUIRE(got.prompt.size() == expected.prompt.size());
  for (size_t i = 0; i < got.prompt.size(); ++i) {
    CHECK(got.prompt[i].token == expected.prompt[i].token);
    CHECK(std::abs(got.prompt[i].value - expected.prompt[i].value) < 2e-4);
    CHECK(got.prompt_top[i].size() == expected.prompt_top[i].size());
  }
  REQUIRE(got.hidden.size() == expected.hidden.size());
  for (size_t i = 0; i < got.hidden.size(); ++i)
    CHECK(std::abs(got.hidden[i] - expected.hidden[i]) < 1e-3);
}

} // namespace

TEST_CASE("every architecture in fp32 gives the CPU's tokens", "[models][cuda]") {
  for (const auto* name : golden_models) {
    INFO(name);
    stage_driver cpu{golden_options(name)};
    stage_driver device{device_options(name)};
    const auto requests = mixed_requests(3);
    const auto expected = cpu.run(requests);
    const auto got = device.run(requests, {.chunk = 33, .step_tokens = 60});
    for (size_t i = 0; i < requests.size(); ++i)
      check_close(expected[i], got[i]);
  }
}

TEST_CASE("quantized layers compute what bitsandbytes computes on a device", "[models][cuda]") {
  for (const auto* name :
       {"llama", "llama-outliers", "mistral", "qwen2", "qwen3", "gpt2", "llama-bias"})
    for (const auto how : {models::quantization::int8, models::quantization::fp4}) {
      const bool eight = how == models::quantization::int8;
      const auto golden =
          read_golden(golden_model(name) + (eight ? "/expected-int8.json" : "/expected-fp4.json"));
      std::vector<generation> requests;
      for (const auto& c : golden.cases)
        requests.push_back(c.request());
      auto options = device_options(name);
      options.quantized = how;
      stage_driver device{options};
      CHECK(device.stage(0).weight_bytes() ==
            Approx(static_cast<double>(device.plan().info.weight_bytes)).epsilon(0.02));
      const auto got = device.run(requests, {.chunk = 33, .step_tokens = 60});
      // In bf16 the whole model is computed less exactly; typical differences stay small.
      options.dtype = "bf16";
      stage_driver coarse{options};
      double sum = 0;
      size_t count = 0;
      for (size_t i = 0; i < requests.size(); ++i) {
        INFO(name << (eight ? " int8" : " fp4") << ", prompt of " << requests[i].prompt.size());
        CHECK(got[i].fault == "");
        CHECK(got[i].tokens == golden.cases[i].tokens);
        CHECK(worst_difference(golden.cases[i], got[i]) < (eight ? 0.2 : 5e-4));
        const auto rough = coarse.run_alone(requests[i]);
        CHECK(rough.fault == "");
        for (size_t p = 0; p < rough.prompt.size(); ++p, ++count)
          sum += std::abs(rough.prompt[p].value - golden.cases[i].prompt_logprobs[p]);
      }
      INFO(name << (eight ? " int8" : " fp4"));
      CHECK(sum / static_cast<double>(count) < 0.15);
    }
}

TEST_CASE("bf16 on a device stays close to fp32", "[models][cuda]") {
  for (const auto* name : golden_models) {
    if (std::string{name} == "llama-dynamic")
      continue; // Its base depends on the request, which another test sees to.
    INFO(name);
    const auto golden = read_golden(golden_model(name) + "/expected.json");
    stage_driver device{device_options(name, "bf16")};
    double sum = 0;
    double most = 0;
    size_t count = 0;
    for (const auto& c : golden.cases) {
      auto request = c.request();
      request.prompt.insert(request.prompt.end(), c.tokens.begin(), c.tokens.end());
      request.new_tokens = 0;
      const auto got = device.run_alone(request);
      auto expected = c.prompt_logprobs;
      expected.insert(expected.end(), c.logprobs.begin(), c.logprobs.end());
      REQUIRE(got.prompt.size() == expected.size());
      for (size_t i = 0; i < expected.size(); ++i, ++count) {
        const double error = std::abs(got.prompt[i].value - expected[i]);
        sum += error;
        most = std::max(most, error);
      }
    }
    CHECK(sum / static_cast<double>(count) < 0.05);
    CHECK(most < 0.6);
  }
}

TEST_CASE("fp16 stays close to fp32", "[models][cuda]") {
  const auto golden = read_golden(golden_model("llama") + "/expected.json");
  stage_driver device{device_options("llama", "fp16")};
  for (const auto& c : golden.cases) {
    auto request = c.request();
    request.new_tokens = 0;
    CHECK(worst_difference({c.prompt, c.prompt_logprobs, {}, {}}, device.run_alone(request)) <
          0.03);
  }
}

TEST_CASE("recordings and shards change no bit", "[models][cuda]") {
  const auto requests = mixed_requests(5);
  auto options = device_options("llama", "bf16");
  options.cuda_graphs = false;
  const auto expected = stage_driver{options}.run(requests);
  CHECK(stage_driver{device_options("llama", "bf16")}.run(requests) == expected);
  const auto devices = models::list_devices();
  REQUIRE(devices);
  if (devices->size() > 1)
    CHECK(stage_driver{device_options("llama", "bf16", 2)}.run(requests) == expected);
}

TEST_CASE("preempted sequences go on as if nothing had happened on a device", "[models][cuda]") {
  const auto requests = mixed_requests(6);
  stage_driver device{device_options("qwen3")};
  const auto expected = device.run(requests);
  const auto got = device.run(requests, {.chunk = 20, .shuffle_blocks = true, .preempt_every = 3});
  for (size_t i = 0; i < requests.size(); ++i)
    CHECK(got[i].tokens == expected[i].tokens);
}

namespace {

/// Issues each step before the last one's tokens are read: rows then feed `pending_token`.
std::vector<std::vector<int32_t>> run_ahead(const models::load_options& options,
                                            const std::vector<generation>& all) {
  auto plan = models::plan_model(options);
  REQUIRE(plan);
  REQUIRE(plan->schedules_ahead);
  REQUIRE(plan->stages.size() == 1);
  std::atomic<uint32_t> told{0};
  auto made = plan->stages[0]({});
  REQUIRE(made);
  auto& stage = **made;
  std::vector<std::vector<int32_t>> tokens(all.size());
  uint32_t next_block = 0;
  uint32_t longest = 0;
  for (const auto& g : all)
    longest = std::max(longest, g.new_tokens);
  const auto collect = [&](uint64_t id) {
    auto result = stage.collect(step_id{id});
    REQUIRE(result);
    for (const auto& row : result->rows) {
      INFO(row.fault_text);
      REQUIRE(row.fault == ec::none);
      tokens[static_cast<size_t>(row.sequence)].push_back(row.token);
    }
  };
  for (uint32_t k = 0; k < longest; ++k) {
    step s;
    s.id = step_id{k + 1};
    for (size_t i = 0; i < all.size(); ++i) {
      const auto& g = all[i];
      if (k >= g.new_tokens)
        continue;
      const auto prompt = static_cast<uint32_t>(g.prompt.size());
      step_row row;
      row.sequence = sequence_id{i};
      row.first_token = static_cast<uint32_t>(s.tokens.size());
      row.first_block = static_cast<uint32_t>(s.blocks.size());
      row.wants.sample = true;
      row.position = k == 0 ? 0 : prompt + k - 1;
      row.token_count = k == 0 ? prompt : 1;
      if (k == 0) {
        sequence_start start;
        start.sequence = row.sequence;
        start.prompt_length = prompt;
        start.history = g.prompt;
        start.sampling = g.sampling;
        s.starts.push_back(std::move(start));
        s.tokens.insert(s.tokens.end(), g.prompt.begin(), g.prompt.end());
      } else {
        s.tokens.push_back(pending_token);
      }
      const auto per_block = plan->kv_block_tokens;
      const auto had = (row.position + per_block - 1) / per_block;
      const auto needed = (row.position + row.token_count + per_block - 1) / per_block;
      row.block_count = needed - had;
      for (uint32_t b = 0; b < row.block_count; ++b)
        s.blocks.push_back(block_id{next_block++});
      s.rows.push_back(row);
    }
    auto launched = stage.launch(s, {}, [&] { ++told; });
    REQUIRE(launched);
    CHECK_FALSE(launched->result);
    if (k > 0)
      collect(k);
  }
  collect(longest);
  // A result may be collected before its completion is told; the stage tells all before it ends.
  made->reset();
  CHECK(told == longest);
  return tokens;
}

} // namespace

TEST_CASE("a step may be issued before the last one's tokens are known", "[models][cuda]") {
  auto requests = mixed_requests(8);
  for (auto& g : requests) {
    g.sampling.no_repeat_ngram_size = 0;
    g.new_tokens += 10;
  }
  for (const auto graphs : {true, false}) {
    auto options = device_options("llama");
    options.cuda_graphs = graphs;
    const auto expected = stage_driver{options}.run(requests);
    const auto got = run_ahead(options, requests);
    for (size_t i = 0; i < requests.size(); ++i)
      CHECK(got[i] == expected[i].tokens);
  }
}

TEST_CASE("a step that does not fit the device is void, and the stage goes on", "[models][cuda]") {
  auto options = device_options("llama");
  options.max_step_tokens = 64;
  stage_driver device{options};
  generation g;
  g.prompt.assign(200, 7);
  g.new_tokens = 3;
  CHECK_THROWS_WITH(device.run_alone(g), Catch::Contains("exceeds what the device was set up for"));
  stage_driver again{options};
  const auto expected = again.run_alone(g, {.chunk = 64});
  CHECK(expected.tokens.size() == 3);
}

TEST_CASE("what is recorded in idle time changes no bit", "[models][cuda]") {
  device_options("llama"); // Names the library that list_devices opens.
  const auto devices = models::list_devices();
  for (const auto shards : {1u, 2u}) {
    if (shards > 1 && devices && devices->size() < 2)
      break;
    const auto requests = mixed_requests(9);
    const auto options = device_options("llama", "bf16", shards);
    const auto expected = stage_driver{options}.run(requests);
    stage_driver prepared{options};
    for (uint32_t i = 0; i < shards; ++i) {
      auto& stage = prepared.stage(i);
      CHECK(stage.has_idle_work());
      size_t pieces = 0;
      for (bool more = true; more; ++pieces) {
        auto left = stage.idle_work();
        REQUIRE(left);
        more = *left;
        CHECK(more == stage.has_idle_work());
      }
      // Each kind of step twice: once as it is, once recorded.
      CHECK(pieces > 4);
      CHECK(pieces % 2 == 0);
    }
    CHECK(prepared.run(requests) == expected);
  }
  auto eager = device_options("llama", "bf16");
  eager.cuda_graphs = false;
  CHECK_FALSE(stage_driver{eager}.stage(0).has_idle_work());
}

TEST_CASE("idle work amid steps that nobody collects loses none that follow", "[models][cuda]") {
  const auto options = device_options("llama", "fp32", 2);
  const auto devices = models::list_devices();
  if (devices && devices->size() < 2)
    return;
  stage_driver device{options};
  const auto per_block = device.plan().kv_block_tokens;
  for (uint32_t k = 0; k < 40; ++k) {
    step s;
    s.id = step_id{k + 1};
    step_row row;
    row.position = k;
    row.token_count = 1;
    row.block_count = k % per_block == 0 ? 1 : 0;
    if (k == 0)
      s.starts.push_back({row.sequence, 1, {7}, {}, 0});
    s.tokens.push_back(static_cast<int32_t>(7 + k));
    if (row.block_count > 0)
      s.blocks.push_back(block_id{k / per_block});
    s.rows.push_back(row);
    // As a shard does it: the first stage's steps are launched, and only the last one's collected.
    auto launched = device.stage(0).launch(s, {}, nullptr);
    INFO(k << ": " << (launched ? "" : text_of(launched.error())));
    REQUIRE(launched);
    REQUIRE(device.stage(1).forward(s, launched->passed));
    for (size_t i = 0; k % 6 == 5 && i < 2; ++i)
      if (device.stage(i).has_idle_work())
        CHECK(device.stage(i).idle_work());
  }
}

TEST_CASE("a device says how long it was busy and what a move takes", "[models][cuda]") {
  auto options = device_options("llama");
  options.kv_host_bytes = 1 << 20;
  auto plan = models::plan_model(options);
  REQUIRE(plan);
  CHECK(plan->kv_host_blocks == (1u << 20) / plan->kv_block_bytes);
  REQUIRE(plan->block_move_ns);
  CHECK(*plan->block_move_ns == 0);
  auto made = plan->stages[0]({});
  REQUIRE(made);
  CHECK(*plan->block_move_ns > 0);
  options.kv_host_bytes = 0;
  plan = models::plan_model(options);
  REQUIRE(plan);
  CHECK(plan->kv_host_blocks == 0);
  CHECK(!plan->block_move_ns);
}
