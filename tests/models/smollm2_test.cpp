#include <catch2/catch.hpp>

#include <cmath>
#include <filesystem>

#include "golden.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

const std::string folder = TROUPE_SOURCE_DIR "/.cache/models/SmolLM2-135M-Instruct";

/// The default model is prepared by `make test`; without it there is nothing to compare.
bool prepared() {
  if (std::filesystem::exists(folder + "/model.safetensors"))
    return true;
  WARN("skipped: " << folder << " is missing, `make test` prepares it");
  return false;
}

models::load_options options_for(const std::string& type) {
  models::load_options options;
  options.folder = folder;
  options.dtype = type;
  options.kv_cache_bytes = uint64_t{1} << 30;
  return options;
}

} // namespace

TEST_CASE("SmolLM2 in fp32 equals transformers token for token, up to 2000 tokens",
          "[models][smollm2]") {
  if (!prepared())
    return;
  const auto golden = read_golden(golden_model("smollm2.json"));
  stage_driver driver{options_for("fp32")};
  std::vector<generation> requests;
  for (const auto& c : golden.cases)
    requests.push_back(c.request());
  const auto got = driver.run(requests, {.chunk = 300});
  for (size_t i = 0; i < requests.size(); ++i) {
    INFO("prompt of " << requests[i].prompt.size() << " tokens");
    CHECK(got[i].tokens == golden.cases[i].tokens);
    CHECK(worst_difference(golden.cases[i], got[i]) < 1e-4);
  }
}

TEST_CASE("SmolLM2 in bf16 strays no farther from fp32 than transformers' bf16",
          "[models][smollm2]") {
  if (!prepared())
    return;
  const auto golden = read_golden(golden_model("smollm2.json"));
  stage_driver driver{options_for("bf16")};
  double sum = 0, worst = 0;
  size_t count = 0;
  for (const auto& c : golden.cases) {
    auto request = c.request();
    request.new_tokens = 0;
    const auto got = driver.run_alone(request);
    REQUIRE(got.prompt.size() == c.prompt_logprobs.size());
    for (size_t i = 0; i < got.prompt.size(); ++i) {
      const double error = std::abs(double(got.prompt[i].value) - c.prompt_logprobs[i]);
      sum += error;
      worst = std::max(worst, error);
      ++count;
    }
  }
  INFO("mean " << sum / count << ", worst " << worst);
  CHECK(sum / static_cast<double>(count) <= 1.1 * golden.bf16_mean_error);
  CHECK(worst <= 1.1 * golden.bf16_max_error);
}
