#include <algorithm>
#include <utility>

#include "troupe/models/decoder_stage.hpp"
#include "troupe/models/device_claims.hpp"
#include "troupe/models/device_plan.hpp"
#include "troupe/models/plan_parts.hpp"
#include "troupe/models/sampling/needs_host.hpp"

namespace troupe::models {

namespace {

/// A GPU takes as long for fewer tokens: it reads the weights in any case.
constexpr uint32_t device_pipeline_chunk = 512;
/// Prompts of 1,024 tokens on an H200, 8B, in steps of 512 / 1,024 / 2,048 / 4,096 tokens: 37,800 /
/// 39,700 / 40,800 / 41,400 tokens/s.
constexpr double device_step_overhead_tokens = 50;

/// What all copies of a model on GPUs share.
struct device_model {
  std::shared_ptr<const decoder_model> model;
  load_options options;
  dtype compute = dtype::bf16;
  const device_entry* entry = nullptr;
  copy_places places;
  bool few = false;
};

/// "GPU 0, GPU 1", "GPUs 0 and 1, GPUs 2 and 3"
std::string name_all(const std::vector<std::vector<device_description>>& groups) {
  std::string text;
  for (const auto& group : groups) {
    text += (text.empty() ? "" : ", ") + std::string{group.size() > 1 ? "GPUs " : "GPU "};
    for (const auto& device : group)
      text += (&device == &group.front() ? "" : " and ") + std::to_string(device.ordinal);
  }
  return text;
}

/// Asks the driver what is free now. @pre the planning turn is held
caf::error refresh(std::vector<device_description>& devices) {
  auto there = list_devices();
  if (!there)
    return std::move(there.error());
  for (auto& device : devices)
    for (const auto& now : *there)
      if (now.ordinal == device.ordinal)
        device = now;
  take_off_claims(devices);
  return {};
}

stage_factory make_factory(const device_model& what, const device_layout& layout,
                           const device_part& part) {
  const decoder_stage_options stage_options{.model = what.model,
                                            .range = part.range,
                                            .block_tokens = what.options.kv_block_tokens,
                                            .blocks = layout.blocks,
                                            .context = layout.context,
                                            .max_step_tokens = layout.step_tokens,
                                            .quantized = what.options.quantized,
                                            .random_seed = what.options.random_seed};
  auto claim = std::make_shared<device_claim>(
      part.device.ordinal, part.weight_bytes + part.working_bytes + part.kv_bytes);
  return [stage_options, claim, entry = what.entry, device_options = part.options](
             const load_progress& progress) -> caf::expected<std::unique_ptr<stage>> {
    auto device = entry->make_backend(device_options);
    if (!device)
      return device.error();
    auto made = make_decoder_stage(stage_options, std::move(*device), progress);
    // Whether it is taken now or could not be: nothing is kept back for it any longer.
    claim->release();
    return made;
  };
}

/// @pre the planning turn is held
model_plan plan_copy(const device_model& what, const device_layout& layout) {
  model_plan plan;
  plan.info = describe_model(*what.model, what.options, what.compute);
  plan.info.context = layout.context;
  plan.info.weight_bytes = 0;
  for (const auto& part : layout.parts)
    plan.info.weight_bytes += part.weight_bytes;
  plan.kv_block_tokens = what.options.kv_block_tokens;
  plan.kv_block_bytes = plan.info.kv_bytes_per_token * what.options.kv_block_tokens;
  plan.kv_blocks = layout.blocks;
  plan.max_step_tokens = layout.step_tokens;
  plan.schedules_ahead =
      what.options.schedule_ahead != device_choice::off && layout.parts.size() == 1;
  plan.needs_host = needs_host;
  plan.pipeline_chunk = device_pipeline_chunk;
  plan.step_overhead_tokens = device_step_overhead_tokens;
  plan.description = describe(*what.model, layout, what.options);
  describe_quantization(plan, what.options);
  for (const auto& part : layout.parts) {
    plan.devices.push_back(static_cast<int32_t>(part.device.ordinal));
    plan.stages.push_back(make_factory(what, layout, part));
  }
  plan_host_memory(plan, what.options, true);
  return plan;
}

/// A further copy answers what the first one does, so it needs room for the same context.
caf::expected<model_plan> plan_another(const device_model& what, size_t group) {
  auto turn = planning_turn();
  auto devices = what.places.groups.at(group);
  if (auto err = refresh(devices))
    return err;
  auto layout = lay_out(*what.model, what.options, what.compute, devices, what.few,
                        what.entry->working_bytes);
  if (!layout)
    return caf::make_error(ec::out_of_memory,
                           "one more copy does not fit on GPU " +
                               std::to_string(devices.front().ordinal) +
                               " beside what is there (option.kv_cache_bytes leaves room for "
                               "several): " +
                               text_of(layout.error()));
  return plan_copy(what, *layout);
}

} // namespace

caf::expected<model_plan> plan_on_devices(std::shared_ptr<const decoder_model> model,
                                          const load_options& options,
                                          std::vector<device_description> devices, bool few) {
  auto compute = device_compute_type(options.dtype, model->config.stored);
  if (!compute)
    return compute.error();
  auto library = open_device_library();
  if (!library)
    return library.error();
  auto what = std::make_shared<device_model>();
  what->model = std::move(model);
  what->options = options;
  what->compute = *compute;
  what->entry = *library;
  what->few = few;
  auto turn = planning_turn();
  if (auto err = refresh(devices))
    return err;
  auto places =
      place_copies(*what->model, options, *compute, devices, few, (*library)->working_bytes);
  if (!places)
    return std::move(places.error());
  what->places = std::move(*places);
  what->options.shards = what->places.stages;
  auto& groups = what->places.groups;
  auto layout = lay_out(*what->model, what->options, *compute, groups.front(), few,
                        what->entry->working_bytes);
  if (!layout)
    return layout.error();
  auto plan = plan_copy(*what, *layout);
  if (layout->parts.size() < groups.front().size())
    groups.front().resize(layout->parts.size());
  if (groups.size() > 1)
    plan.description.push_back("room for a copy of the model on each of: " + name_all(groups));
  plan.description.insert(plan.description.end(), what->places.left_out.begin(),
                          what->places.left_out.end());
  what->options.max_model_len = layout->context;
  what->options.max_step_tokens = layout->step_tokens;
  plan.groups_chosen = what->places.chosen;
  for (const auto& group : groups) {
    auto& ordinals = plan.groups.emplace_back();
    for (const auto& device : group)
      ordinals.push_back(static_cast<int32_t>(device.ordinal));
  }
  plan.another = [what = std::shared_ptr<const device_model>{std::move(what)}](size_t group) {
    return plan_another(*what, group);
  };
  return plan;
}

} // namespace troupe::models
