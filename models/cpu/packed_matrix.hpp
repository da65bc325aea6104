#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "troupe/models/activation.hpp"
#include "troupe/models/cpu/context.hpp"
#include "troupe/models/cpu/elementwise.hpp"
#include "troupe/models/cpu/weight_arena.hpp"
#include "troupe/models/quantization.hpp"

namespace troupe::models::cpu {

/// Output columns that lie together in a panel.
inline constexpr size_t panel_columns = 32;

/// A weight as a model file holds it: fp32, bf16 or fp16, any alignment.
struct weight_source {
  const void* data = nullptr;
  dtype type = dtype::fp32;
  size_t n = 0;            ///< Output features.
  size_t k = 0;            ///< Input features.
  bool transposed = false; ///< false: [n, k] as torch's Linear; true: [k, n] as GPT-2's Conv1D.
  size_t stride = 0; ///< Elements from one row of `data` to the next; 0 = rows lie end to end.
};

/// How output columns follow each other in the panels.
enum class column_order : uint8_t {
  plain, ///< As in the matrix.
  gated, ///< The first half of the columns are gates, the second what they gate: their panels take
         ///< turns.
};

/// What a panel of 32 output columns holds, all of K.
enum class panel_format : uint8_t {
  fp32, ///< [k][32]
  bf16, ///< [k / 2][32][2]; an odd K is padded by a zero.
  int8, ///< Codes [k][32], then the columns' scales, fp32 [32]: weight = code * scale.
  fp4,  ///< For every fp4_scale_span(k) = s of k: scales, fp32 [32], then codes, [(s + 1) / 2][32]
        ///< bytes, the even k in the lower half.
};

/// Bytes of such scales and their codes.
constexpr size_t fp4_step_bytes(size_t k) {
  return panel_columns * (sizeof(float) + (fp4_scale_span(k) + 1) / 2);
}

/// @pre storage is dtype::fp32 or dtype::bf16.
constexpr panel_format format_of(dtype storage, quantization how = quantization::none) {
  return how == quantization::int8  ? panel_format::int8
         : how == quantization::fp4 ? panel_format::fp4
         : storage == dtype::fp32   ? panel_format::fp32
                                    : panel_format::bf16;
}

/// A weight matrix in the order in which the kernels read it: panels of 32 output columns. The same
/// bytes serve every instruction set. The memory belongs to the arena, which must live longer.
class packed_matrix {
public:
  packed_matrix() = default;

  /// A matrix of zeros, to be filled by `pack`. @pre a gated n is even. `empty()` afterwards means
  /// that the arena had no memory.
  packed_matrix(weight_arena& arena, size_t n, size_t k, panel_format format,
                column_order order = column_order::plain);

  /// Bytes that a matrix takes.
  static size_t bytes_for(size_t n, size_t k, panel_format format,
                          column_order order = column_order::plain);

  /// Fills output columns [first, first + source.n) from a source; several sources side by side
  /// make a fused matrix (q, k, v or gate, up). fp32 is rounded to nearest even for bf16, and
  /// quantized as quantization.hpp says. The source is not needed afterwards: large ones can be
  /// packed in slices of rows, a multiple of 64 each but the last, and given back.
  /// @pre source.k == k() and first + source.n <= n().
  void pack(context& where, const weight_source& source, size_t first = 0);

  /// Writes row `index` of the [n, k] matrix to out[k]: the embedding of a token whose table is
  /// tied to the logits' weight needs no second copy. @pre index < n().
  void unpack_row(size_t index, float* out) const;

  bool empty() const { return data_ == nullptr; }
  size_t n() const { return n_; }
  size_t k() const { return k_; }
  panel_format format() const { return format_; }
  column_order order() const { return order_; }
  size_t byte_size() const { return empty() ? 0 : bytes_for(n_, k_, format_, order_); }
  size_t panels() const { return panels_for(n_, order_); }
  size_t panel_bytes() const { return panel_bytes(k_, format_); }
  const std::byte* panel(size_t i) const { return data_ + i * panel_bytes(); }
  /// fp32 [32]. @pre format() == panel_format::int8
  const float* column_scales(size_t panel_index) const {
    return reinterpret_cast<const float*>(panel(panel_index) + k_ * panel_columns);
  }

  /// The columns that a panel holds: all 32, or fewer at the end of the matrix or of a half.
  struct columns {
    size_t first;
    size_t count;
  };
  columns columns_of(size_t panel) const;

private:
  /// Where column `index` lies.
  struct place {
    size_t panel;
    size_t column;
  };
  place place_of(size_t index) const;
  static size_t panels_for(size_t n, column_order order);
  static size_t panel_bytes(size_t k, panel_format format);

  std::byte* data_ = nullptr;
  size_t n_ = 0;
  size_t k_ = 0;
  panel_format format_ = panel_format::fp32;
  column_order order_ = column_order::plain;
};

/// out[k] for each token: `ids.size()` rows of a packed table, one behind the other with
/// `out_stride` floats between them. @pre every id is below table.n().
void gather_rows(context& where, const packed_matrix& table, std::span<const int32_t> ids,
                 float* out, size_t out_stride);

/// One matrix product: out[m][n] = sum over k of x[m][k] * w[n][k], + bias[n], + residual[m][n].
struct product {
  const float* x = nullptr; ///< [m, k]
  size_t x_stride = 0;      ///< Floats from row to row.
  size_t m = 0;
  float* out = nullptr; ///< [m, n]; must not overlap x.
  size_t out_stride = 0;
  const float* bias = nullptr;     ///< [n] or null.
  const float* residual = nullptr; ///< [m, n] or null; may be `out` itself.
  size_t residual_stride = 0;
  /// For a gated matrix: out is [m, n / 2], act(first half) * second half, the bits that
  /// `gated_activation` would make of the plain product. @pre no residual.
  std::optional<activation_kind> gate = std::nullopt;
};

/// Computes the product. Every output is accumulated over k in ascending order in fp32 and from
/// nothing else, so that its bits depend on its own row of x, on the weights and on the instruction
/// set, and not on m, on the neighbours or on the number of threads. With bf16 weights and
/// isa::avx512_bf16, x is rounded to bf16 and pairs of products are added at once; elsewhere bf16
/// weights are widened and x stays as it is. With int8 weights a row of x becomes codes and
/// outliers (quantization.hpp), with fp4 weights it stays as it is. The weights are streamed once
/// up to 64 rows.
void multiply(context& where, const packed_matrix& weight, const product& p);

} // namespace troupe::models::cpu
