#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/models/loading/json_file.hpp"

namespace troupe::models {

/// How rotary frequencies are derived from the base.
enum class rope_kind : uint8_t { plain, linear, dynamic, yarn, llama3 };

/// Rotary position embedding of one model, as its config.json describes it.
struct rope_spec {
  rope_kind kind = rope_kind::plain;
  double base = 10000;
  uint32_t dims = 0; ///< Rotated dimensions of a head, even.
  double factor = 1;
  uint32_t trained_length = 0; ///< max_position_embeddings, or original_max_position_embeddings.
  double low_freq_factor = 1;  ///< llama3
  double high_freq_factor = 4; ///< llama3
  double beta_fast = 32;       ///< yarn
  double beta_slow = 1;        ///< yarn
  bool truncate = true;        ///< yarn: whole dimensions as borders of the ramp.
  double attention_factor = 1; ///< yarn: multiplies cosines and sines.
};

/// Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before). Problems
/// are left in `json.error()`: ec::unsupported_model for a kind that we lack.
rope_spec read_rope(const json_file& json, uint32_t head_size, uint32_t max_positions,
                    double default_base);

/// Angle per position of each pair of dimensions, [dims / 2]. `base` replaces the spec's own unless
/// it is 0. Source: transformers 5.17, modeling_rope_utils.py; fp32 where that computes in fp32.
std::vector<float> inverse_frequencies(const rope_spec& rope, double base = 0);

/// The base for a sequence that may grow to `length`; the spec's own up to the trained length.
/// Source: modeling_rope_utils.py, _compute_dynamic_ntk_parameters. @pre kind is dynamic.
double dynamic_base(const rope_spec& rope, uint32_t length);

} // namespace troupe::models
