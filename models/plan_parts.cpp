#include "troupe/models/plan_parts.hpp"

#include <algorithm>

#include "troupe/models/host_memory.hpp"
#include "troupe/models/placement.hpp"

namespace troupe::models {

std::string mebibytes(uint64_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

model_info describe_model(const decoder_model& model, const load_options& options, dtype compute) {
  const auto& c = model.config;
  const auto need = memory_of(model, compute, options.quantized, options.shards == 1 ? 1 : 2);
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

void describe_quantization(model_plan& plan, const load_options& options) {
  if (options.quantized == quantization::none)
    return;
  const bool eight = options.quantized == quantization::int8;
  plan.description.push_back(
      std::string{"the layers' matrices are kept in "} +
      (eight ? "8 bits (LLM.int8() of bitsandbytes)" : "4 bits (fp4 of bitsandbytes)") +
      ": with embedding and logits " + mebibytes(plan.info.weight_bytes));
}

void plan_host_memory(model_plan& plan, const load_options& options, bool on_device) {
  auto bytes = options.kv_host_bytes;
  if (bytes == host_bytes_by_device)
    bytes = on_device ? std::min(available_memory() / 4, plan.kv_blocks * plan.kv_block_bytes) : 0;
  plan.kv_host_blocks = static_cast<uint32_t>(
      std::min<uint64_t>(bytes / std::max<uint64_t>(plan.kv_block_bytes, 1), UINT32_MAX));
  if (plan.kv_host_blocks == 0)
    return;
  plan.block_move_ns = std::make_shared<std::atomic<uint64_t>>(0);
  plan.description.push_back("host memory for the KV of preempted sequences: up to " +
                             mebibytes(plan.kv_host_blocks * plan.kv_block_bytes));
  for (auto& make : plan.stages)
    make = [make = std::move(make), slowest = plan.block_move_ns](
               const load_progress& progress) -> caf::expected<std::unique_ptr<stage>> {
      auto made = make(progress);
      if (!made)
        return made;
      const auto took = (*made)->measure_block_move();
      if (!took)
        return took.error();
      auto known = slowest->load();
      while (known < *took && !slowest->compare_exchange_weak(known, *took)) {
      }
      return made;
    };
}

} // namespace troupe::models
