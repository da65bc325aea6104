#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

/// Passes over one row of fp32 logits, once per instruction set. Each keeps to one order of
/// additions (16 lanes, blocks of 128, fp64 over blocks) and uses no fused multiply-add, so that
/// all of them give the same bits: a draw does not depend on the machine either. Internal to
/// models/sampling.
namespace troupe::models::sampling {

/// Values per block of the passes' by-products.
inline constexpr size_t row_block = 128;

constexpr size_t blocks_of(size_t count) {
  return (count + row_block - 1) / row_block;
}

struct row_kernels {
  std::string_view name;

  /// The maximum of each block, [blocks_of(count)]; NaN is passed over, an all-NaN block gives
  /// -inf.
  void (*block_max)(const float* x, size_t count, float* maxima);

  /// out[i] = x[i] / divisor (exactly rounded) and the block maxima of `out`. `out` may be `x`.
  void (*divide)(const float* x, size_t count, float divisor, float* out, float* maxima);

  /// Sum of exp(x[i] - shift). NaN if any x is. @pre no x exceeds shift; below shift - 87 counts as
  /// 0.
  double (*exp_sum)(const float* x, size_t count, float shift);

  /// out[i] = exp(x[i] - shift), its sum over each block, and the sum of those in order.
  double (*exp_store)(const float* x, size_t count, float shift, float* out, double* block_sums);

  /// The sum of each block and the sum of those in order. The same bits as exp_store's.
  double (*sum)(const float* x, size_t count, double* block_sums);
};

/// The best table for this processor; TROUPE_CPU_ISA ("plain", "avx2", "avx512") asks for a lesser
/// one.
const row_kernels& kernels();

/// Every table that this processor can run, the plain one first.
std::vector<const row_kernels*> available_kernels();

extern const row_kernels plain_kernels;
#ifdef TROUPE_SAMPLING_X86
extern const row_kernels avx2_kernels;
extern const row_kernels avx512_kernels;
#endif

} // namespace troupe::models::sampling
