#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "golden.hpp"
#include "troupe/models/quantization.hpp"

using namespace troupe;
using namespace troupe::test;
using models::quantization;

namespace {

std::string file_of(quantization how) {
  return how == quantization::int8 ? "/expected-int8.json" : "/expected-fp4.json";
}

models::load_options quantized(const std::string& name, quantization how) {
  auto options = golden_options(name);
  options.quantized = how;
  return options;
}

/// Every case of a tiny model against what transformers computed with bitsandbytes' weights. One
/// activation that falls on the other side of a rounding moves log-probabilities in the third
/// digit, so that the typical difference says more than the worst.
void check_model(const std::string& name, quantization how) {
  const auto golden = read_golden(golden_model(name) + file_of(how));
  stage_driver driver{quantized(name, how)};
  std::vector<generation> requests;
  for (const auto& c : golden.cases)
    requests.push_back(c.request());
  const auto together = driver.run(requests);
  std::vector<double> differences;
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto& expected = golden.cases[i];
    INFO(name << ", prompt of " << expected.prompt.size() << " tokens");
    CHECK(together[i].fault == "");
    CHECK(together[i].tokens == expected.tokens);
    differences.push_back(worst_difference(expected, together[i]));
    CHECK(differences.back() < (how == quantization::int8 ? 0.1 : 1e-4));
    CHECK(driver.run_alone(requests[i]) == together[i]);
  }
  std::sort(differences.begin(), differences.end());
  CHECK(differences[differences.size() / 2] < (how == quantization::int8 ? 2e-2 : 5e-5));
  CHECK(differences.front() < 1e-5);
}

} // namespace

TEST_CASE("8-bit layers compute what bitsandbytes computes", "[models][quantization]") {
  for (const auto* name :
       {"llama", "llama-outliers", "mistral", "qwen2", "qwen3", "gpt2", "llama-bias"})
    check_model(name, quantization::int8);
}

TEST_CASE("4-bit layers compute what bitsandbytes computes", "[models][quantization]") {
  // 48 and 40 input features: blocks of 64 weights run over the ends of rows.
  for (const auto* name :
       {"llama", "llama-outliers", "mistral", "qwen2", "qwen3", "gpt2", "llama-bias"})
    check_model(name, quantization::fp4);
}

TEST_CASE("a quantized model's bits do not depend on chunks, neighbours, preemption or shards",
          "[models][quantization]") {
  std::mt19937 random{11};
  std::vector<generation> requests(6);
  for (auto& g : requests) {
    const auto length = 1 + random() % 200;
    for (uint32_t i = 0; i < length; ++i)
      g.prompt.push_back(static_cast<int32_t>(3 + random() % 256));
    g.new_tokens = 1 + random() % 6;
    g.prompt_logprobs = true;
  }
  for (const auto how : {quantization::int8, quantization::fp4})
    for (const auto* type : {"fp32", "bf16"}) {
      auto options = quantized("llama-outliers", how);
      options.dtype = type;
      stage_driver driver{options};
      std::vector<generated> expected;
      for (const auto& g : requests)
        expected.push_back(driver.run_alone(g));
      for (uint32_t chunk : {1U, 7U, 33U, 512U})
        CHECK(driver.run(requests, {.chunk = chunk}) == expected);
      CHECK(driver.run(requests, {.chunk = 64, .shuffle_blocks = true, .preempt_every = 3}) ==
            expected);
      options.shards = 3;
      options.cpu_threads = 2;
      stage_driver many{options};
      CHECK(many.run(requests, {.chunk = 40}) == expected);
    }
}

TEST_CASE("quantized layers take the memory that the plan says", "[models][quantization]") {
  uint64_t whole = 0;
  for (const auto how : {quantization::none, quantization::int8, quantization::fp4}) {
    stage_driver driver{quantized("llama", how)};
    const auto planned = driver.plan().info.weight_bytes;
    const auto taken = driver.stage(0).weight_bytes();
    CHECK(driver.plan().description.empty() == (how == quantization::none));
    if (how == quantization::none)
      whole = taken;
    // Panels of 32 columns are filled up, norms and biases not planned for.
    CHECK(static_cast<double>(taken) == Approx(static_cast<double>(planned)).epsilon(0.1));
    // The embedding and the logits' weight, a third of this model, stay as they are.
    if (how != quantization::none)
      CHECK(taken < whole / 2);
  }
}

TEST_CASE("fp4 codes are those of the nearest values", "[models][quantization]") {
  for (int i = -1000; i <= 1000; ++i) {
    const float x = static_cast<float>(i) / 1000;
    double nearest = 2;
    for (const float value : models::fp4_values)
      nearest = std::min(nearest, std::abs(double{value} - x));
    const double taken = std::abs(double{models::fp4_values[models::fp4_code(x)]} - x);
    CHECK(taken == Approx(nearest).margin(1e-6));
  }
  CHECK(models::fp4_code(0.0f / 1.0f) == 0);
  CHECK(models::fp4_code(-1) == 11);
}
