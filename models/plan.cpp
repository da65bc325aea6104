#include "troupe/models/stage.hpp"

#include <algorithm>
#include <array>

#include "troupe/models/cpu/isa.hpp"
#include "troupe/models/cpu_backend.hpp"
#include "troupe/models/decoder_stage.hpp"
#include "troupe/models/dummy/dummy_model.hpp"
#include "troupe/models/host_memory.hpp"
#include "troupe/models/placement.hpp"

namespace troupe::models {

namespace {

std::string mebibytes(uint64_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

caf::error check_options(const load_options& options, const decoder_model& model) {
  constexpr std::array<uint32_t, 3> block_sizes = {8, 16, 32};
  if (std::find(block_sizes.begin(), block_sizes.end(), options.kv_block_tokens) ==
      block_sizes.end())
    return caf::make_error(
        ec::bad_option, "a KV block of " + std::to_string(options.kv_block_tokens) +
                            " tokens is not possible: set option.kv_block_tokens to 8, 16 or 32");
  if (options.shards == 0 || options.shards > model.config.layers)
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

model_info describe_model(const decoder_model& model, const load_options& options, dtype compute) {
  const auto& c = model.config;
  const auto need = memory_of(model, compute, options.shards);
  model_info info;
  info.architecture = model.recipe->architecture;
  info.folder = model.folder;
  info.layers = c.layers;
  info.hidden = c.hidden;
  info.vocabulary = c.vocabulary;
  info.context = options.max_model_len > 0 ? std::min(c.context, options.max_model_len) : c.context;
  info.parameters = model.parameters();
  info.weight_bytes = need.weight_bytes;
  info.kv_bytes_per_token = need.kv_bytes_per_token;
  info.eos_tokens = c.eos_tokens;
  // Some folders name an end token that the logits do not reach: it can never be drawn.
  std::erase_if(info.eos_tokens,
                [&](int32_t id) { return static_cast<uint32_t>(id) >= c.vocabulary; });
  info.bos_token = c.bos_token;
  info.compute = compute;
  if (c.rope.kind == rope_kind::dynamic && model.recipe->positions == position_kind::rotary)
    info.rope_base_for = [rope = c.rope](uint32_t length) { return dynamic_base(rope, length); };
  return info;
}

} // namespace

caf::expected<model_plan> plan_model(const load_options& options) {
  if (options.dummy)
    return plan_dummy(options, nullptr);
  auto opened = open_decoder(options.folder);
  if (!opened)
    return opened.error();
  const auto model = *opened;
  if (auto err = check_options(options, *model))
    return err;
  auto compute = compute_type(options.dtype, model->config.stored);
  if (!compute)
    return compute.error();
  model_plan plan;
  plan.info = describe_model(*model, options, *compute);
  const auto available = available_memory();
  if (plan.info.weight_bytes >= available)
    return caf::make_error(ec::out_of_memory, "the weights of '" + options.folder + "' take " +
                                                  mebibytes(plan.info.weight_bytes) +
                                                  ", but only " + mebibytes(available) +
                                                  " of memory are free");
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
  const auto ranges = split_layers(c.layers, options.shards, model->layer_parameters(),
                                   uint64_t{c.vocabulary} * c.hidden);
  const auto threads = split_threads(
      options.cpu_threads > 0 ? options.cpu_threads : usable_processors(), options.shards);
  for (size_t i = 0; i < ranges.size(); ++i) {
    const decoder_stage_options stage_options{.model = model,
                                              .range = ranges[i],
                                              .block_tokens = plan.kv_block_tokens,
                                              .blocks = plan.kv_blocks,
                                              .context = plan.info.context,
                                              .max_step_tokens = options.max_step_tokens};
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
  return plan;
}

} // namespace troupe::models
