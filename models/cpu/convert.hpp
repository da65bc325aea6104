#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "troupe/models/activation.hpp"

namespace troupe::models::cpu {

inline float bf16_to_fp32(uint16_t x) {
  return std::bit_cast<float>(uint32_t{x} << 16);
}

/// To nearest, ties to even; a NaN stays a (quiet) NaN.
inline uint16_t fp32_to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffU) > 0x7f800000U)
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/// Exact, subnormal numbers included.
float fp16_to_fp32(uint16_t x);
/// To nearest, ties to even; too large becomes infinite.
uint16_t fp32_to_fp16(float x);

/// Widens `count` elements of fp32, bf16 or fp16. `in` needs no alignment; out must not overlap it.
void widen(dtype from, const void* in, size_t count, float* out);
/// Rounds `count` elements to fp32, bf16 or fp16.
void narrow(const float* in, size_t count, dtype to, void* out);

} // namespace troupe::models::cpu
