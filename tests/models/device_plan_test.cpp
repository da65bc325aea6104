#include "troupe/models/device_plan.hpp"

#include <catch2/catch.hpp>

#include "temporary_folder.hpp"
#include "troupe/models/device_claims.hpp"

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

/// The ordinals of each group.
std::vector<std::vector<uint32_t>> places_on(const load_options& options,
                                             const std::vector<device_description>& devices,
                                             bool few = false) {
  const auto places =
      place_copies(big_model(), options, dtype::bf16, devices, few, some_working_bytes);
  REQUIRE(places);
  std::vector<std::vector<uint32_t>> all;
  for (const auto& group : places->groups) {
    all.emplace_back();
    for (const auto& device : group)
      all.back().push_back(device.ordinal);
  }
  return all;
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

TEST_CASE("a copy goes to each GPU that holds the model, or one to all of them",
          "[models][device_plan]") {
  using places = std::vector<std::vector<uint32_t>>;
  auto options = wishes();
  CHECK(places_on(options, gpus(3)) == places{{0}, {1}, {2}});
  CHECK(places_on(options, gpus(4, 16)) == places{{0, 1, 2, 3}}); // Three would hold it.
  CHECK(places_on(options, gpus(3), true) == places{{0, 1, 2}});
  options.shards = all_devices;
  CHECK(places_on(options, gpus(3)) == places{{0, 1, 2}});
  options.shards = 2;
  CHECK(places_on(options, gpus(5)) == places{{0, 1}, {2, 3}});
  options.shards = 1;
  CHECK(places_on(options, gpus(2)) == places{{0}, {1}});
  options.shards = 3;
  CHECK(places_on(options, gpus(2)) == places{{0, 1}}); // Which lay_out refuses.
}

TEST_CASE("a GPU without room for a copy is left out and named", "[models][device_plan]") {
  auto devices = gpus(2);
  devices[0] = gpu(0, 80, 70);
  const auto places =
      place_copies(big_model(), wishes(), dtype::bf16, devices, false, some_working_bytes);
  REQUIRE(places);
  REQUIRE(places->groups.size() == 1);
  CHECK(places->groups[0].front().ordinal == 1);
  REQUIRE(places->left_out.size() == 1);
  CHECK(places->left_out[0].find("GPU 0 gets no copy: ") == 0);
}

TEST_CASE("memory that has to stay free is not planned with", "[models][device_plan]") {
  auto options = wishes();
  options.gpu_memory_utilization = 1;
  options.device_reserved_bytes = uint64_t{20} << 30;
  const auto layout = lay_out_on(options, gpus(1));
  REQUIRE(layout);
  const auto& part = layout->parts[0];
  const auto taken = part.weight_bytes + part.working_bytes + part.kv_bytes;
  CHECK(taken <= (uint64_t{80 - 20} << 30) - (uint64_t{1} << 29));
  CHECK(taken > (uint64_t{80 - 22} << 30));
  options.device_required_bytes = uint64_t{60} << 30; // Half a GiB is used by others.
  const auto refused = lay_out_on(options, gpus(1)).error();
  CHECK(code_of(refused) == ec::out_of_memory);
  CHECK(says(refused, "gpu.required_memory_mb (61440) and gpu.reserved_memory_mb (20480)"));
  options.device_required_bytes = uint64_t{59} << 30;
  CHECK(lay_out_on(options, gpus(1)));
}

TEST_CASE("what a plan counts on is not free for another one", "[models][device_plan]") {
  constexpr uint32_t ordinal = 77; // Nobody else's.
  auto free_now = [] {
    std::vector<device_description> devices{gpu(ordinal, 80, 0), gpu(ordinal + 1, 80, 0)};
    take_off_claims(devices);
    CHECK(devices[1].free_bytes >> 30 == 80);
    return devices[0].free_bytes >> 30;
  };
  {
    device_claim first{ordinal, uint64_t{30} << 30};
    CHECK(free_now() == 50);
    device_claim second{ordinal, uint64_t{60} << 30};
    CHECK(free_now() == 0);
    first.release();
    first.release();
    CHECK(free_now() == 20);
  }
  CHECK(free_now() == 80);
}
