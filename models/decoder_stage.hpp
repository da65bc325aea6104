#pragma once

#include <memory>

#include "troupe/models/backend.hpp"
#include "troupe/models/decoder_model.hpp"
#include "troupe/models/decoder_weights.hpp"
#include "troupe/models/stage.hpp"

namespace troupe::models {

/// What a stage of a decoder is made from.
struct decoder_stage_options {
  std::shared_ptr<const decoder_model> model;
  layer_range range;
  uint32_t block_tokens = default_kv_block_tokens;
  uint32_t blocks = 0;
  uint32_t context = 0; ///< The model's own or less.
  uint32_t max_step_tokens = 512;
  quantization quantized = quantization::none; ///< What the layers' matrices are kept as.
  uint64_t random_seed = 0;                    ///< Of the weights where the model has no files.
};

/// Loads the weights of a stage and reserves its pages. The layers are the same for every
/// architecture: pre-norm attention and MLP around a residual, as the recipe says.
/// Errors: ec::bad_model, ec::out_of_memory.
caf::expected<std::unique_ptr<stage>> make_decoder_stage(const decoder_stage_options& options,
                                                         std::unique_ptr<backend> device,
                                                         const load_progress& progress);

} // namespace troupe::models
