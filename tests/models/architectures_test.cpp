#include <catch2/catch.hpp>

#include "golden.hpp"

using namespace troupe;
using namespace troupe::test;

namespace {

/// Every case of a tiny model, alone and all together, against what transformers computed.
void check_model(const std::string& name) {
  const auto golden = read_golden(golden_model(name) + "/expected.json");
  stage_driver driver{golden_options(name)};
  std::vector<generation> requests;
  for (const auto& c : golden.cases) {
    auto request = c.request();
    if (driver.plan().info.rope_base_for)
      request.rope_base = driver.plan().info.rope_base_for(static_cast<uint32_t>(c.prompt.size() + c.tokens.size()));
    requests.push_back(request);
  }
  const auto together = driver.run(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto& expected = golden.cases[i];
    INFO(name << ", prompt of " << expected.prompt.size() << " tokens");
    CHECK(together[i].fault == "");
    CHECK(together[i].tokens == expected.tokens);
    CHECK(worst_difference(expected, together[i]) < 1e-4);
    for (size_t p = 0; p < together[i].prompt.size(); ++p)
      REQUIRE(together[i].prompt[p].token == expected.prompt[p + 1]);
    CHECK(driver.run_alone(requests[i]) == together[i]);
  }
}

} // namespace

TEST_CASE("Llama computes what transformers computes", "[models][architectures]") { check_model("llama"); }
TEST_CASE("llama3 rope scaling equals transformers'", "[models][architectures]") { check_model("llama-llama3"); }
TEST_CASE("linear rope scaling equals transformers'", "[models][architectures]") { check_model("llama-linear"); }
TEST_CASE("yarn rope scaling equals transformers'", "[models][architectures]") { check_model("llama-yarn"); }
TEST_CASE("yarn with mscale and untruncated borders equals transformers'", "[models][architectures]") {
  check_model("llama-yarn-mscale");
}
TEST_CASE("dynamic rope scaling with the base fixed at admission equals transformers'", "[models][architectures]") {
  check_model("llama-dynamic");
}
TEST_CASE("Mistral's sliding window equals transformers', from fp16 weights", "[models][architectures]") {
  check_model("mistral");
}
TEST_CASE("Qwen2 computes what transformers computes, from sharded weights", "[models][architectures]") {
  check_model("qwen2");
}
TEST_CASE("Qwen2 with a window in its upper layers equals transformers'", "[models][architectures]") {
  check_model("qwen2-window");
}
TEST_CASE("Qwen3 computes what transformers computes, from bf16 weights", "[models][architectures]") {
  check_model("qwen3");
}
TEST_CASE("GPT-2 computes what transformers computes", "[models][architectures]") { check_model("gpt2"); }
