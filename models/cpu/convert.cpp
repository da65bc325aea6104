#include "troupe/models/cpu/convert.hpp"

#include <cstring>

namespace troupe::models::cpu {

float fp16_to_fp32(uint16_t x) {
  const uint32_t sign = (x & 0x8000U) << 16;
  const uint32_t magnitude = x & 0x7fffU;
  if (magnitude >= 0x7c00U) // Infinite or a NaN, whose payload is kept.
    return std::bit_cast<float>(sign | 0x7f800000U | ((magnitude & 0x3ffU) << 13));
  if (magnitude >= 0x400U)
    return std::bit_cast<float>(sign | ((magnitude << 13) + (112U << 23)));
  // Zero or subnormal: a multiple of 2^-24, which is exact in fp32.
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -value : value;
}

uint16_t fp32_to_fp16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U)
    return sign | 0x7e00U;
  if (magnitude >= 0x477ff000U) // 65520 and more round to infinity.
    return sign | 0x7c00U;
  if (magnitude < 0x38800000U) {
    // Below 2^-14: adding 0.5 lets the adder round to a multiple of 2^-24.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U) - (112U << 23);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

void widen(dtype from, const void* in, size_t count, float* out) {
  if (from == dtype::fp32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  const auto* bytes = static_cast<const unsigned char*>(in);
  const auto at = [bytes](size_t i) {
    uint16_t x;
    std::memcpy(&x, bytes + 2 * i, sizeof(x));
    return x;
  };
  if (from == dtype::bf16) {
    for (size_t i = 0; i < count; ++i)
      out[i] = bf16_to_fp32(at(i));
  } else {
    for (size_t i = 0; i < count; ++i)
      out[i] = fp16_to_fp32(at(i));
  }
}

void narrow(const float* in, size_t count, dtype to, void* out) {
  if (to == dtype::fp32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  auto* bytes = static_cast<unsigned char*>(out);
  for (size_t i = 0; i < count; ++i) {
    const uint16_t x = to == dtype::bf16 ? fp32_to_bf16(in[i]) : fp32_to_fp16(in[i]);
    std::memcpy(bytes + 2 * i, &x, sizeof(x));
  }
}

} // namespace troupe::models::cpu
