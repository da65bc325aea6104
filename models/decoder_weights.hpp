#pragma once

#include <memory>
#include <vector>

#include "troupe/models/backend.hpp"
#include "troupe/models/decoder_model.hpp"
#include "troupe/models/stage.hpp"

namespace troupe::models {

/// Contiguous layers [first, last), and what stands before and behind them.
struct layer_range {
  uint32_t first = 0;
  uint32_t last = 0;
  bool begins = true; ///< Holds the embedding.
  bool ends = true;   ///< Holds the final norm and the logits' weight.

  uint32_t count() const { return last - first; }
};

/// One layer's weights in the backend's form.
struct decoder_layer {
  std::unique_ptr<norm_weight> attention_norm;
  std::unique_ptr<linear_weight> qkv;  ///< q, k and v fused.
  std::unique_ptr<norm_weight> q_norm; ///< Null where the recipe has none.
  std::unique_ptr<norm_weight> k_norm;
  std::unique_ptr<linear_weight> out;
  std::unique_ptr<norm_weight> mlp_norm;
  std::unique_ptr<linear_weight> up; ///< Gate and up fused where the MLP is gated.
  std::unique_ptr<linear_weight> down;
};

/// A stage's weights.
struct decoder_weights {
  std::unique_ptr<table_weight> embedding;
  std::unique_ptr<table_weight> positions; ///< Null unless learned.
  std::vector<decoder_layer> layers;
  std::unique_ptr<norm_weight> final_norm;
  std::unique_ptr<linear_weight> head; ///< Shared with a tied embedding on the same stage.
};

/// Reads and packs the weights of one stage; the mapped pages of each are given back at once.
/// A model without any files gets random weights of that seed.
/// @param quantized What the layers' matrices are kept as; the embedding and the logits' weight
/// stay as they are.
/// Errors: ec::bad_model: a file was truncated meanwhile; ec::out_of_memory.
caf::expected<decoder_weights> load_weights(const decoder_model& model, const layer_range& range,
                                            backend& device, const load_progress& progress,
                                            quantization quantized = quantization::none,
                                            uint64_t random_seed = 0);

} // namespace troupe::models
