#include "troupe/models/stage.hpp"

#include <algorithm>
#include <array>

#include "troupe/models/cpu/isa.hpp"
#include "troupe/models/cpu_backend.hpp"
#include "troupe/models/decoder_stage.hpp"
#include "troupe/models/device_plan.hpp"
#include "troupe/models/dummy/dummy_model.hpp"
#include "troupe/models/host_memory.hpp"
#include "troupe/models/placement.hpp"
#include "troupe/models/plan_parts.hpp"

namespace troupe::models {

namespace {

constexpr uint32_t usual_cpu_step_tokens = 512;

caf::error check_options(const load_options& options, const decoder_model& model) {
  constexpr std::array<uint32_t, 3> block_sizes = {8, 16, 32};
  if (std::find(block_sizes.begin(), block_sizes.end(), options.kv_block_tokens) ==
      block_sizes.end())
    return caf::make_error(
        ec::bad_option, "a KV block of " + std::to_string(options.kv_block_tokens) +
                            " tokens is not possible: set option.kv_block_tokens to 8, 16 or 32");
  const bool counted = options.shards != by_device && options.shards != all_devices;
  if (counted && (options.shards == 0 || options.shards > model.config.layers))
    return caf::make_error(ec::bad_option, "the model has " + std::to_string(model.config.layers) +
                                               " layers, which cannot be split over " +
                                               std::to_string(options.shards) + " shards");
  if (options.max_step_tokens == 0)
    return caf::make_error(ec::bad_option, std::string{"a step needs room for at least one token"});
  // Asked again where each stage starts; here a bad wish fails before anything is loaded.
  if (const auto choice = cpu::isa_from_environment(); !choice.problem.empty())
    return caf::make_error(ec::bad_option, choice.problem);
  return {};
}

/// The GPUs to use; none: the CPU. Errors: ec::bad_option.
caf::expected<std::vector<device_description>> find_devices(const device_wish& wish,
                                                            std::string& why_none) {
  if (wish.cpu)
    return std::vector<device_description>{};
  // Where nobody asked for a GPU, a machine that shows none is not looked at more closely.
  if (!wish.required && !may_have_devices())
    return std::vector<device_description>{};
  auto there = list_devices();
  if (!there && !wish.required) {
    why_none = "no GPU is used: " + text_of(there.error());
    return std::vector<device_description>{};
  }
  if (!there)
    return there.error();
  return allowed_devices(wish, *there);
}

caf::expected<std::shared_ptr<const decoder_model>> open_model(const load_options& options) {
  if (!options.random_weights)
    return open_decoder(options.folder);
  auto read = read_configuration(options.folder);
  if (!read)
    return read.error();
  return std::make_shared<const decoder_model>(std::move(*read));
}

} // namespace

caf::expected<model_plan> plan_model(const load_options& wished) {
  auto options = wished;
  const auto wish = read_device_wish(options.devices, options.device_map);
  if (!wish)
    return wish.error();
  std::string why_none;
  std::vector<device_description> devices;
  if (!options.dummy) {
    auto found = find_devices(*wish, why_none);
    if (!found)
      return found.error();
    devices = std::move(*found);
  }
  if (devices.empty()) {
    if (options.shards == by_device)
      options.shards = 1;
    else if (options.shards == all_devices)
      options.shards = usable_processors();
    if (options.max_step_tokens == by_device)
      options.max_step_tokens = usual_cpu_step_tokens;
  }
  if (options.dummy) {
    auto plan = plan_dummy(options, nullptr);
    if (plan)
      plan->max_step_tokens = options.max_step_tokens;
    return plan;
  }
  auto opened = open_model(options);
  if (!opened)
    return opened.error();
  const auto model = *opened;
  if (auto err = check_options(options, *model))
    return err;
  if (!devices.empty())
    return plan_on_devices(model, options, std::move(devices), wish->few);
  auto compute = compute_type(options.dtype, model->config.stored);
  if (!compute)
    return compute.error();
  model_plan plan;
  if (!why_none.empty())
    plan.description.push_back(why_none);
  plan.max_step_tokens = options.max_step_tokens;
  plan.info = describe_model(*model, options, *compute);
  describe_quantization(plan, options);
  const auto available = available_memory();
  if (plan.info.weight_bytes >= available)
    return caf::make_error(ec::out_of_memory, "the weights of '" + options.folder + "' take " +
                                                  mebibytes(plan.info.weight_bytes) +
                                                  ", but only " + mebibytes(available) +
                                                  " of memory are free: option.dtype=bf16 takes "
                                                  "less, option.quantize still less");
  plan.kv_block_tokens = options.kv_block_tokens;
  plan.kv_block_bytes = plan.info.kv_bytes_per_token * options.kv_block_tokens;
  auto blocks = kv_blocks_for(options, plan.info.context, plan.kv_block_bytes,
                              available - plan.info.weight_bytes);
  if (!blocks)
    return blocks.error();
  plan.kv_blocks = *blocks;

  // A sequence that turns out to be over costs a row in vain, a newcomer waits for a step more: on
  // the CPU that is more than the hop between two steps, which is what is gained.
  plan.schedules_ahead = options.schedule_ahead == device_choice::on && options.shards == 1;
  const auto& c = model->config;
  const auto element = size_of(*compute);
  const auto ranges =
      split_layers(c.layers, options.shards, model->layer_bytes(options.quantized, element),
                   uint64_t{c.vocabulary} * c.hidden * element);
  const auto threads = split_threads(
      options.cpu_threads > 0 ? options.cpu_threads : usable_processors(), options.shards);
  for (size_t i = 0; i < ranges.size(); ++i) {
    const decoder_stage_options stage_options{.model = model,
                                              .range = ranges[i],
                                              .block_tokens = plan.kv_block_tokens,
                                              .blocks = plan.kv_blocks,
                                              .context = plan.info.context,
                                              .max_step_tokens = options.max_step_tokens,
                                              .quantized = options.quantized,
                                              .random_seed = options.random_seed};
    const cpu_backend_options device_options{.threads = threads[i], .compute = *compute};
    plan.stages.push_back(
        [stage_options,
         device_options](const load_progress& progress) -> caf::expected<std::unique_ptr<stage>> {
          auto device = make_cpu_backend(device_options);
          if (!device)
            return device.error();
          return make_decoder_stage(stage_options, std::move(*device), progress);
        });
  }
  plan_host_memory(plan, options, false);
  return plan;
}

} // namespace troupe::models
