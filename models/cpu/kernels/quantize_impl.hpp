#pragma once

#include <cstddef>
#include <cstdint>

#include "troupe/models/quantization.hpp"

/// A row's form for int8 weights, in loops that the compiler makes vectors of. Internal linkage:
/// see kernels/table.hpp.
namespace troupe::models::cpu {
namespace {

inline int32_t size_bits(float x) {
  return __builtin_bit_cast(int32_t, x) & 0x7fffffff;
}

/// The nearest fp16 number; too large ones stay as they are, which are outliers in any case.
inline float rounded_to_fp16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const float normal = __builtin_bit_cast(float, (bits + 0xfffU + ((bits >> 13) & 1U)) & ~0x1fffU);
  // Below 2^-14 all steps are 2^-24, as those of fp32 are from a half on.
  const float half = __builtin_bit_cast(float, (bits & 0x80000000U) | 0x3f000000U);
  const float subnormal = (x + half) - half;
  return size_bits(x) >= 0x38800000 ? normal : subnormal;
}

float quantize_row(const float* x, size_t k, float* out) {
  constexpr int32_t limit = __builtin_bit_cast(int32_t, outlier_threshold);
  // Of numbers that are not negative the bits are in their order; a NaN is above all.
  int32_t largest = 0;
  for (size_t i = 0; i < k; ++i) {
    const int32_t size = size_bits(rounded_to_fp16(x[i]));
    const int32_t counted = size < limit ? size : 0;
    largest = counted > largest ? counted : largest;
  }
  const float top = __builtin_bit_cast(float, largest);
  const float scale = top > 0 ? top / int8_codes : 1;
  // As int8_factor, which must not be compiled for this instruction set.
  const float factor = int8_codes * (1 / (top > 0 ? top : 1));
  constexpr float whole = 12582912; // 1.5 * 2^23: adding it leaves no room for a fraction.
  for (size_t i = 0; i < k; ++i) {
    const float rounded = rounded_to_fp16(x[i]);
    const float code = (rounded * factor + whole) - whole;
    const float outlier = x[i] / scale;
    out[i] = size_bits(rounded) < limit ? code : outlier;
  }
  return scale;
}

} // namespace
} // namespace troupe::models::cpu
