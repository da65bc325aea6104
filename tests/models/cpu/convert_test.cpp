#include <bit>
#include <cmath>
#include <vector>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/convert.hpp"

namespace cpu = troupe::models::cpu;

TEST_CASE("all fp16 numbers survive the way to fp32 and back", "[models][cpu][convert]") {
  size_t kept = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float wide = cpu::fp16_to_fp32(static_cast<uint16_t>(bits));
    const uint32_t exponent = bits >> 10 & 31;
    const uint32_t mantissa = bits & 1023;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31 && mantissa != 0) {
      kept += std::isnan(wide) && std::isnan(cpu::fp16_to_fp32(cpu::fp32_to_fp16(wide)));
      continue;
    }
    const double value = exponent == 31 ? INFINITY
                         : exponent == 0
                             ? std::ldexp(mantissa, -24)
                             : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
    kept += wide == sign * value && cpu::fp32_to_fp16(wide) == bits;
  }
  CHECK(kept == 0x10000);
}

TEST_CASE("rounding goes to the nearest, a tie to the even", "[models][cpu][convert]") {
  // bf16 has 8 significant bits: 1 + 2^-8 lies half-way between 1 and 1 + 2^-7.
  CHECK(cpu::bf16_to_fp32(cpu::fp32_to_bf16(1 + 0x1p-8f)) == 1);
  CHECK(cpu::bf16_to_fp32(cpu::fp32_to_bf16(1 + 0x1.8p-7f)) == 1 + 0x1p-6f);
  CHECK(cpu::bf16_to_fp32(cpu::fp32_to_bf16(1 + 0x1.02p-8f)) == 1 + 0x1p-7f);
  CHECK(std::isinf(cpu::bf16_to_fp32(cpu::fp32_to_bf16(3.4e38f))));
  CHECK(std::isnan(cpu::bf16_to_fp32(cpu::fp32_to_bf16(std::bit_cast<float>(0x7f800001U)))));
  CHECK(cpu::fp16_to_fp32(cpu::fp32_to_fp16(1 + 0x1p-11f)) == 1);
  CHECK(cpu::fp16_to_fp32(cpu::fp32_to_fp16(1 + 0x1.8p-10f)) == 1 + 0x1p-9f);
  CHECK(cpu::fp32_to_fp16(0x1p-25f) == 0); // Half of the smallest: a tie, to even.
  CHECK(cpu::fp32_to_fp16(0x1.8p-25f) == 1);
  CHECK(cpu::fp32_to_fp16(65519) == 0x7bff);
  CHECK(cpu::fp32_to_fp16(65520) == 0x7c00);
}

TEST_CASE("bytes at any address can be widened", "[models][cpu][convert]") {
  using troupe::models::dtype;
  const std::vector<float> values{1, -2.5f, 0, 0.125f, 96};
  for (dtype type : {dtype::fp32, dtype::bf16, dtype::fp16}) {
    std::vector<std::byte> bytes(32);
    std::vector<float> back(values.size());
    cpu::narrow(values.data(), values.size(), type, bytes.data() + 1);
    cpu::widen(type, bytes.data() + 1, values.size(), back.data());
    CHECK(back == values);
  }
}
