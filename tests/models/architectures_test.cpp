#include <catch2/catch.hpp>

#include "golden.hpp"
#include "temporary_folder.hpp"

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
      request.rope_base = driver.plan().info.rope_base_for(
          static_cast<uint32_t>(c.prompt.size() + c.tokens.size()));
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

TEST_CASE("Llama computes what transformers computes", "[models][architectures]") {
  check_model("llama");
}
TEST_CASE("Llama with all its biases, tied and with odd head sizes equals transformers'",
          "[models][architectures]") {
  check_model("llama-bias");
}
TEST_CASE("llama3 rope scaling equals transformers'", "[models][architectures]") {
  check_model("llama-llama3");
}
TEST_CASE("linear rope scaling equals transformers'", "[models][architectures]") {
  check_model("llama-linear");
}
TEST_CASE("yarn rope scaling equals transformers'", "[models][architectures]") {
  check_model("llama-yarn");
}
TEST_CASE("yarn with mscale and untruncated borders equals transformers'",
          "[models][architectures]") {
  check_model("llama-yarn-mscale");
}
TEST_CASE("dynamic rope scaling with the base fixed at admission equals transformers'",
          "[models][architectures]") {
  check_model("llama-dynamic");
}
TEST_CASE("Mistral's sliding window equals transformers', from fp16 weights",
          "[models][architectures]") {
  check_model("mistral");
}
TEST_CASE("Qwen2 computes what transformers computes, from sharded weights",
          "[models][architectures]") {
  check_model("qwen2");
}
TEST_CASE("Qwen2 with a window in its upper layers equals transformers'",
          "[models][architectures]") {
  check_model("qwen2-window");
}
TEST_CASE("Qwen3 computes what transformers computes, from bf16 weights",
          "[models][architectures]") {
  check_model("qwen3");
}
TEST_CASE("GPT-2 computes what transformers computes", "[models][architectures]") {
  check_model("gpt2");
}

TEST_CASE("GPT-2's weights are found without their prefix, as the original folder has them",
          "[models][architectures]") {
  temporary_folder folder;
  folder.copy_from(golden_model("gpt2"));
  auto bytes = folder.read("model.safetensors");
  const std::string prefix = "transformer.";
  size_t removed = 0;
  const auto header_end = [&] { return bytes.find("}}") + 2; };
  for (auto at = bytes.find(prefix); at < header_end(); at = bytes.find(prefix, at)) {
    bytes.erase(at, prefix.size());
    removed += prefix.size();
  }
  REQUIRE(removed > 0);
  bytes.insert(header_end(), removed, ' '); // the header keeps its length
  folder.write("model.safetensors", bytes);
  auto options = golden_options("gpt2");
  const auto request = read_golden(golden_model("gpt2") + "/expected.json").cases[5].request();
  const auto expected = stage_driver{options}.run_alone(request);
  options.folder = folder.path();
  CHECK(stage_driver{options}.run_alone(request) == expected);
}
