#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "troupe/models/activation.hpp"
#include "troupe/models/cpu/context.hpp"

/// Operations on rows of fp32 activations. A row's result depends on that row alone; many rows are
/// spread over the context's threads. Unless said otherwise `out` may be the input itself, strides
/// count floats from row to row, and nothing needs alignment.
namespace troupe::models::cpu {

/// Rows to be normalised, and optionally something to add to them first.
struct norm_input {
  const float* x = nullptr; ///< [rows, width]
  size_t x_stride = 0;
  const float* add = nullptr; ///< [rows, width] or null: the norm is taken of x + add.
  size_t add_stride = 0;
  float* sum = nullptr; ///< Where x + add goes (may be x); null: nowhere.
  size_t sum_stride = 0;
  size_t rows = 0;
  size_t width = 0;
};

/// out = x / sqrt(mean(x^2) + epsilon) * weight. Source: transformers, LlamaRMSNorm.forward, in
/// fp32.
void rms_norm(context& where, const norm_input& in, const float* weight, float epsilon, float* out,
              size_t out_stride);

/// out = (x - mean) / sqrt(variance + epsilon) * weight + bias; weight or bias may be null.
/// Source: torch.nn.LayerNorm.
void layer_norm(context& where, const norm_input& in, const float* weight, const float* bias,
                float epsilon, float* out, size_t out_stride);

/// Heads of a step, changed in place: x[t * stride + h * head_size + i].
struct head_rows {
  float* x = nullptr;
  size_t stride = 0; ///< Floats from token to token.
  size_t tokens = 0;
  size_t heads = 0;
  size_t head_size = 0;
};

/// `rms_norm` of each head by itself. Source: transformers, Qwen3Attention (q_norm, k_norm).
void head_norm(context& where, const head_rows& in, const float* weight, float epsilon);

/// Cosines and sines of position * inv_freq, times `factor` (yarn's attention factor; else 1).
/// Computed in fp32 as transformers does. cos, sin: [positions, inv_freq].
void rotary_table(std::span<const uint32_t> positions, std::span<const float> inv_freq,
                  float factor, float* cos, float* sin);

/// Rotates the first 2 * half dimensions of each head; the rest stays as it is.
/// @param cos, sin    [tokens, half], as `rotary_table` makes them.
/// @param interleaved false: element i pairs with i + half (Llama, Qwen, Mistral); true: 2i with 2i
/// + 1.
void rotary(context& where, const head_rows& in, const float* cos, const float* sin, size_t half,
            bool interleaved);

/// Names as transformers' ACT2FN.
enum class activation_kind : uint8_t {
  silu,
  gelu,      ///< By erf.
  gelu_tanh, ///< gelu_new, gelu_pytorch_tanh.
  relu,
};

/// out[r][i] = act(in[r][i]) * in[r][width + i]: gate and up side by side, as a fused product
/// leaves them.
void gated_activation(context& where, activation_kind kind, const float* in, size_t in_stride,
                      size_t rows, size_t width, float* out, size_t out_stride);

/// out[r][i] = act(in[r][i]).
void activate(context& where, activation_kind kind, const float* in, size_t in_stride, size_t rows,
              size_t width, float* out, size_t out_stride);

/// out[r][i] = in[r][i] + bias[i].
void add_bias(context& where, const float* in, size_t in_stride, const float* bias, size_t rows,
              size_t width, float* out, size_t out_stride);

/// out[t] = table[ids[t]] (+ positions_table[positions[t]]), widened to fp32.
/// @param table, positions_table [.., width] in their dtype (fp32, bf16, fp16), any alignment.
/// @pre every id and position lies within its table.
void embed(context& where, const void* table, dtype type, std::span<const int32_t> ids,
           size_t width, float* out, size_t out_stride, const void* positions_table = nullptr,
           dtype positions_type = dtype::fp32, std::span<const uint32_t> positions = {});

} // namespace troupe::models::cpu
