#include "troupe/models/placement.hpp"

#include <algorithm>
#include <cctype>

namespace troupe::models {

std::vector<layer_range> split_layers(uint32_t layers, uint32_t stages, uint64_t layer_cost,
                                      uint64_t tail_cost) {
  uint32_t best_last = layers - (stages - 1);
  if (stages > 1) {
    uint64_t best = UINT64_MAX;
    for (uint32_t last = 1; last <= layers - (stages - 1); ++last) {
      const uint64_t others = (layers - last + stages - 2) / (stages - 1);
      const uint64_t worst = std::max(others * layer_cost, last * layer_cost + tail_cost);
      // At equal cost the later choice gives the last stage more, the others less.
      if (worst <= best) {
        best = worst;
        best_last = last;
      }
    }
  }
  std::vector<layer_range> ranges;
  uint32_t next = 0;
  for (uint32_t i = 0; i < stages; ++i) {
    uint32_t count = best_last;
    if (i + 1 < stages) {
      const uint32_t left = layers - best_last - next;
      count = (left + (stages - 1 - i) - 1) / (stages - 1 - i);
    }
    ranges.push_back(
        {.first = next, .last = next + count, .begins = i == 0, .ends = i + 1 == stages});
    next += count;
  }
  return ranges;
}

std::vector<unsigned> split_threads(unsigned threads, uint32_t stages) {
  std::vector<unsigned> result;
  for (uint32_t i = 0; i < stages; ++i)
    result.push_back(std::max(1U, threads / stages + (i < threads % stages ? 1 : 0)));
  return result;
}

caf::expected<dtype> compute_type(const std::string& wish, dtype stored) {
  std::string name = wish;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (name.empty() || name == "fp32" || name == "fp16")
    return dtype::fp32;
  if (name == "bf16")
    return dtype::bf16;
  if (name == "auto")
    return stored == dtype::bf16 ? dtype::bf16 : dtype::fp32;
  return caf::make_error(ec::bad_option, "Invalid data type: " + wish +
                                             "; on the CPU fp32, bf16, fp16 and auto are known");
}

memory_need memory_of(const decoder_model& model, dtype compute, quantization quantized,
                      uint32_t stages) {
  const auto& c = model.config;
  const uint64_t element = size_of(compute);
  memory_need need;
  need.kv_bytes_per_token = uint64_t{2} * c.kv_width() * c.layers * element;
  need.weight_bytes = model.layer_bytes(quantized, element) * c.layers +
                      uint64_t{c.vocabulary} * c.hidden * element;
  // The embedding is a table of its own unless it is tied and on the same stage as the logits.
  const bool shared = c.tied && stages == 1;
  const uint64_t positions = model.embedding_parameters() - uint64_t{c.vocabulary} * c.hidden;
  const auto table_element = compute == dtype::bf16 ? size_of(dtype::bf16) : size_of(c.stored);
  need.weight_bytes +=
      ((shared ? 0 : uint64_t{c.vocabulary} * c.hidden) + positions) * table_element;
  return need;
}

caf::expected<uint32_t> kv_blocks_for(const load_options& options, uint32_t context,
                                      uint64_t block_bytes, uint64_t free_bytes) {
  const uint64_t per_sequence =
      (uint64_t{context} + options.kv_block_tokens - 1) / options.kv_block_tokens;
  const uint64_t all = per_sequence * std::max<uint64_t>(1, options.max_sequences);
  uint64_t blocks = 0;
  if (options.kv_cache_bytes > 0) {
    blocks = options.kv_cache_bytes / block_bytes;
    if (blocks == 0)
      return caf::make_error(ec::bad_option, "a KV cache of " +
                                                 std::to_string(options.kv_cache_bytes) +
                                                 " bytes does not hold one block of " +
                                                 std::to_string(block_bytes) + " bytes: raise it");
  } else {
    blocks = std::min(all, free_bytes / 4 / block_bytes);
    if (blocks == 0)
      return caf::make_error(ec::out_of_memory,
                             "there is no memory for a KV cache: a quarter of the " +
                                 std::to_string(free_bytes >> 20) +
                                 " MiB that are free does not hold one block");
  }
  return static_cast<uint32_t>(std::min<uint64_t>(blocks, UINT32_MAX - 1));
}

} // namespace troupe::models
