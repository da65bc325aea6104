#pragma once

#include <cstddef>
#include <cstdint>

#include "troupe/models/cpu/isa.hpp"

/// What one instruction set implements. Internal to models/cpu: the functions that loop, split and
/// check are in the sources beside the public headers and call these through a table. The sources
/// of each instruction set are compiled with its flags and must not instantiate inline functions of
/// the standard library, because the linker might then use the compiled copy everywhere.
namespace troupe::models::cpu {

/// A few rows of x times one panel of 32 columns over a stretch of k.
struct tile {
  const void* x = nullptr;          ///< Packed: fp32 [k][rows], or bf16 pairs [k / 2][rows][2].
  const void* w = nullptr;          ///< The panel from the stretch's first k on.
  size_t steps = 0;                 ///< Number of k; of pairs of k for bf16, of spans for fp4.
  size_t span = 0;                  ///< fp4: k that share a scale.
  float* sums = nullptr;            ///< [rows][32], where the sums of this stretch go.
  bool resume = false;              ///< Go on from what stands in `sums`, rather than from zero.
  const std::byte* ahead = nullptr; ///< Weights that will be needed soon ...
  size_t ahead_step = 0;            ///< ... and how far to go in them per step.
};

/// Sums of a tile on their way out: out = sums + bias + residual for `columns` columns.
struct tile_finish {
  const float* sums = nullptr; ///< [rows][32]
  size_t rows = 0;
  size_t columns = 0; ///< Up to 32.
  const float* bias = nullptr;
  const float* residual = nullptr;
  size_t residual_stride = 0;
  float* out = nullptr;
  size_t out_stride = 0;
};

/// Tokens x heads that share one kv head: one unit of work of attention.
struct attention_unit {
  const float* q = nullptr; ///< Of the unit's first token and the group's first head.
  size_t q_stride = 0;
  float* out = nullptr; ///< Likewise.
  size_t out_stride = 0;
  uint32_t tokens = 0;
  uint32_t group = 0;    ///< Heads per kv head.
  uint32_t position = 0; ///< Of the unit's first token.
  uint32_t window = 0;
  float scale = 1;
  uint32_t head_size = 0;
  uint32_t block_tokens = 0;
  bool bf16 = false;
  const std::byte* keys = nullptr;   ///< Of this kv head in block 0.
  const std::byte* values = nullptr; ///< Likewise.
  size_t block_stride = 0;
  const uint32_t* blocks = nullptr;
  float* scratch = nullptr; ///< `attention_scratch_floats` of them, 64-byte aligned.
};

/// Positions that the softmax takes at once; tiles start at multiples of it.
inline constexpr uint32_t attention_tile = 64;

/// Scratch for `items` = tokens * group: packed queries, outputs, scores, and maximum, sum and
/// correction of each; heads are padded to whole vectors.
constexpr size_t attention_scratch_floats(size_t items, size_t head_size) {
  return items * (head_size + (head_size + 15) / 16 * 16 + attention_tile + 3) + 64;
}

/// Rotation of one token's heads.
struct rotation {
  float* x = nullptr;
  size_t heads = 0;
  size_t head_size = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  size_t half = 0;
};

struct kernel_table {
  isa level = isa::plain;
  size_t tile_rows = 1;    ///< Most rows that a tile takes.
  bool pairs_of_x = false; ///< bf16 products want x as bf16 pairs.

  void (*multiply_fp32)(size_t rows, const tile& t) = nullptr;
  void (*multiply_bf16)(size_t rows, const tile& t) = nullptr;
  /// Sums of codes times x; the caller multiplies by the columns' scales.
  void (*multiply_int8)(size_t rows, const tile& t) = nullptr;
  void (*multiply_fp4)(size_t rows, const tile& t) = nullptr;
  /// LLM.int8()'s form of a row: out = codes, and outliers in units of the codes' scale.
  /// @returns That scale.
  float (*quantize_row)(const float* x, size_t k, float* out) = nullptr;
  void (*finish)(const tile_finish& f) = nullptr;
  /// [rows, k] to [k][rows].
  void (*pack_fp32)(const float* x, size_t stride, size_t rows, size_t k, float* out) = nullptr;
  /// [rows, k] to bf16 [(k + 1) / 2][rows][2]; only where `pairs_of_x`.
  void (*pack_bf16)(const float* x, size_t stride, size_t rows, size_t k, uint32_t* out) = nullptr;

  void (*attend)(const attention_unit& u) = nullptr;

  /// out = x / sqrt(mean(x^2) + epsilon) * weight.
  void (*rms_norm)(const float* x, size_t width, const float* weight, float epsilon,
                   float* out) = nullptr;
  void (*layer_norm)(const float* x, size_t width, const float* weight, const float* bias,
                     float epsilon, float* out) = nullptr;
  void (*add)(const float* a, const float* b, size_t width, float* out) = nullptr;
  /// up null: out = act(x), else act(x) * up.
  void (*silu)(const float* x, const float* up, size_t width, float* out) = nullptr;
  void (*gelu_tanh)(const float* x, const float* up, size_t width, float* out) = nullptr;
  /// To bf16, nearest even.
  void (*narrow)(const float* x, size_t width, uint16_t* out) = nullptr;
  void (*rotate)(const rotation& r) = nullptr; ///< Halves, not interleaved.
};

extern const kernel_table plain_kernels;
extern const kernel_table avx2_kernels;
extern const kernel_table avx512_kernels;
// What isa::avx512_bf16 does otherwise than isa::avx512.
void multiply_bf16_pairs(size_t rows, const tile& t);
void pack_bf16_pairs(const float* x, size_t stride, size_t rows, size_t k, uint32_t* out);

/// The table of a level, whether or not the processor offers it.
const kernel_table& kernels_of(isa level);

} // namespace troupe::models::cpu
