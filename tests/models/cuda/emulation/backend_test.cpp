#include <cmath>
#include <cstdlib>
#include <random>

#include <catch2/catch.hpp>

#include "../../golden.hpp"
#include "troupe/models/device_library.hpp"

/// The backend of GPUs on emulated ones: everything but the kernels is what runs on real ones.
using namespace troupe;
using namespace troupe::test;

namespace {

const char* const golden_models[] = {"gpt2",       "llama",        "llama-bias", "llama-dynamic",
                                     "llama-yarn", "llama-llama3", "mistral",    "qwen2",
                                     "qwen2-window", "qwen3"};

models::load_options device_options(const std::string& model, const std::string& type = "fp32",
                                    uint32_t shards = 1) {
  ::setenv("TROUPE_CUDA_LIBRARY", TROUPE_EMULATED_LIBRARY, 1);
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

TEST_CASE("16-bit weights stay close to fp32", "[models][cuda]") {
  for (const auto* type : {"bf16", "fp16"}) {
    INFO(type);
    const auto golden = read_golden(golden_model("llama") + "/golden.json");
    stage_driver device{device_options("llama", type)};
    for (const auto& c : golden.cases) {
      auto request = c.request();
      request.new_tokens = 0;
      const auto got = device.run_alone(request);
      REQUIRE(got.prompt.size() == c.prompt_logprobs.size());
      for (size_t i = 0; i < got.prompt.size(); ++i)
        CHECK(std::abs(got.prompt[i].value - c.prompt_logprobs[i]) < 0.15);
    }
  }
}

TEST_CASE("recordings and shards change no bit", "[models][cuda]") {
  const auto requests = mixed_requests(5);
  auto options = device_options("llama", "bf16");
  options.cuda_graphs = false;
  const auto expected = stage_driver{options}.run(requests);
  CHECK(stage_driver{device_options("llama", "bf16")}.run(requests) == expected);
  CHECK(stage_driver{device_options("llama", "bf16", 2)}.run(requests) == expected);
}

TEST_CASE("preempted sequences go on as if nothing had happened on a device", "[models][cuda]") {
  const auto requests = mixed_requests(6);
  stage_driver device{device_options("qwen3")};
  const auto expected = device.run(requests);
  const auto got =
      device.run(requests, {.chunk = 20, .shuffle_blocks = true, .preempt_every = 3});
  for (size_t i = 0; i < requests.size(); ++i)
    CHECK(got[i].tokens == expected[i].tokens);
}
