#pragma once

#include <cstdint>
#include <vector>

#include "troupe/models/decoder_model.hpp"
#include "troupe/models/decoder_weights.hpp"
#include "troupe/models/stage.hpp"

namespace troupe::models {

/// Cuts `layers` equal layers into `stages` contiguous parts so that the costliest is as cheap as
/// it can be; the last part bears `tail_cost` (norm and logits) besides. Each part has a layer.
/// @pre 0 < stages <= layers.
std::vector<layer_range> split_layers(uint32_t layers, uint32_t stages, uint64_t layer_cost,
                                      uint64_t tail_cost);

/// Threads of each stage: `threads` shared out as evenly as it goes, at least one each.
std::vector<unsigned> split_threads(unsigned threads, uint32_t stages);

/// The type that `load_options::dtype` asks for on the CPU: fp32 or bf16. fp16 weights are computed
/// in fp32, which holds them exactly. Errors: ec::bad_option.
caf::expected<dtype> compute_type(const std::string& wish, dtype stored);

/// Bytes that weights and pages take.
struct memory_need {
  uint64_t weight_bytes = 0;       ///< Over all stages.
  uint64_t kv_bytes_per_token = 0; ///< Over all layers.
};
memory_need memory_of(const decoder_model& model, dtype compute, quantization quantized,
                      uint32_t stages);

/// Blocks of the KV pool. `free_bytes` is what is left after the weights.
/// Errors: ec::bad_option: the wished size holds no block; ec::out_of_memory.
caf::expected<uint32_t> kv_blocks_for(const load_options& options, uint32_t context,
                                      uint64_t block_bytes, uint64_t free_bytes);

} // namespace troupe::models
