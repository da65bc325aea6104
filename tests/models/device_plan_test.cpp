#include "troupe/models/device_plan.hpp"

#include <catch2/catch.hpp>

#include "temporary_folder.hpp"

using namespace troupe;
using namespace troupe::models;
using troupe::test::temporary_folder;

namespace {

device_description gpu(uint32_t ordinal, double gib = 80, double used_gib = 0.5) {
  return {.ordinal = ordinal,
          .name = "GPU X",
          .total_bytes = static_cast<uint64_t>(gib * (1 << 30)),
          .free_bytes = static_cast<uint64_t>((gib - used_gib) * (1 << 30)),
          .major = 9,
          .minor = 0,
          .multiprocessors = 132};
}

std::vector<device_description> gpus(uint32_t count, double gib = 80) {
  std::vector<device_description> all;
  for (uint32_t i = 0; i < count; ++i)
    all.push_back(gpu(i, gib));
  return all;
}

/// The shapes of an 8B model, without weights.
decoder_model big_model() {
  temporary_folder folder;
  folder.write("config.json",
               R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
                   "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                   "num_key_value_heads": 8, "vocab_size": 128256,
                   "max_position_embeddings": 131072, "torch_dtype": "bfloat16"})");
  auto read = read_configuration(folder.path());
  REQUIRE(read);
  return *read;
}

uint64_t some_working_bytes(const device_backend_options&, const device_description&) {
  return uint64_t{1} << 30;
}

load_options wishes() {
  load_options options;
  options.shards = by_device;
  options.max_step_tokens = by_device;
  options.devices = "*";
  return options;
}

caf::expected<device_layout> lay_out_on(const load_options& options,
                                        const std::vector<device_description>& devices,
                                        dtype compute = dtype::bf16) {
  return lay_out(big_model(), options, compute, devices, false, some_working_bytes);
}

bool says(const caf::error& err, const std::string& part) {
  INFO(text_of(err));
  return text_of(err).find(part) != std::string::npos;
}

} // namespace

TEST_CASE("wishes for devices are read in LMI's words", "[models][device_plan]") {
  CHECK(read_device_wish("cpu", "")->cpu);
  CHECK(read_device_wish("-1", "")->cpu);
  CHECK(read_device_wish("*", "cpu")->cpu);
  CHECK_FALSE(read_device_wish("*", "")->required);
  CHECK(read_device_wish("4;5", "")->ordinals == std::vector<uint32_t>{4, 5});
  CHECK(read_device_wish("gpu0;gpu2", "")->required);
  CHECK(read_device_wish("*", "cuda:1")->ordinals == std::vector<uint32_t>{1});
  CHECK(read_device_wish("0", "sequential")->few);
  CHECK(says(read_device_wish("gpux", "").error(), "neither *, cpu, nor a list of GPUs"));
  CHECK(says(read_device_wish("*", "sideways").error(), "option.device_map 'sideways'"));
}

TEST_CASE("GPUs that cannot be used are named", "[models][device_plan]") {
  const auto wish = *read_device_wish("5", "");
  CHECK(says(allowed_devices(wish, gpus(2)).error(), "there is no GPU 5: this machine has 2"));
  auto old = gpus(1);
  old[0].major = 7;
  old[0].minor = 5;
  CHECK(says(allowed_devices({}, old).error(), "compute capability 7.5, and Troupe needs 8.0"));
  auto mixed = gpus(2);
  mixed[1].name = "GPU Y";
  CHECK(says(allowed_devices({}, mixed).error(), "different kinds (GPU X, GPU Y)"));
  CHECK(allowed_devices(*read_device_wish("1", ""), mixed)->front().name == "GPU Y");
}

TEST_CASE("a model that one GPU holds goes to one, and pages fill what is left",
          "[models][device_plan]") {
  const auto layout = lay_out_on(wishes(), gpus(4));
  REQUIRE(layout);
  REQUIRE(layout->parts.size() == 1);
  const auto& part = layout->parts[0];
  CHECK(part.weight_bytes == Approx(16.06e9).epsilon(0.001));
  const auto budget = 0.9 * 80 * (1 << 30) - 0.5 * (1 << 30);
  const auto taken = static_cast<double>(part.weight_bytes + part.working_bytes + part.kv_bytes);
  CHECK(taken <= budget);
  CHECK(taken > budget - 4e6); // One block at most is left over.
  CHECK(layout->context == 131072);
  CHECK(layout->step_tokens == 4096);
}

TEST_CASE("more GPUs are taken where one does not hold the model", "[models][device_plan]") {
  const auto layout = lay_out_on(wishes(), gpus(4, 16));
  REQUIRE(layout);
  CHECK(layout->parts.size() == 3); // On two there would be no room for one whole context.
  CHECK(layout->parts.front().range.begins);
  CHECK(layout->parts.back().range.ends);
  // The same number of blocks everywhere, as the fullest GPU allows.
  for (const auto& part : layout->parts)
    CHECK(part.kv_bytes == uint64_t{layout->blocks} * 16 * 2 * 1024 * 2 * part.range.count());
  auto options = wishes();
  options.shards = all_devices;
  CHECK(lay_out_on(options, gpus(4))->parts.size() == 4);
}

TEST_CASE("what does not fit is refused with what would make it fit", "[models][device_plan]") {
  auto options = wishes();
  options.shards = 3;
  CHECK(says(lay_out_on(options, gpus(2)).error(),
             "GPU devices are not enough to run 3 partitions: there are 2"));
  options.shards = 1;
  const auto error = lay_out_on(options, gpus(1, 12)).error();
  CHECK(code_of(error) == ec::out_of_memory);
  CHECK(says(error, "its weights take 14.96 GiB"));
  CHECK(says(error, "use 2 such GPUs (option.tensor_parallel_degree=2)"));
  options.max_model_len = 131072;
  CHECK(says(lay_out_on(options, gpus(1, 24)).error(), "set option.max_model_len to at most"));
  options.max_model_len = 0; // Nobody asked for all of it.
  const auto less = lay_out_on(options, gpus(1, 24));
  REQUIRE(less);
  CHECK(less->context < 131072);
  CHECK(less->context <= less->blocks * 16);
  CHECK(describe(big_model(), *less, options).back().find("do not fit beside its weights") !=
        std::string::npos);
}
