#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "troupe/models/cpu/isa.hpp"

/// What the kernel tests share.
namespace troupe::test {

/// The same numbers for the same seed, uniform in [-1, 1).
inline std::vector<float> random_floats(size_t count, uint32_t seed = 1) {
  std::mt19937 engine{seed};
  std::vector<float> values(count);
  for (float& v : values)
    v = static_cast<float>(static_cast<int32_t>(engine())) * 0x1p-31f;
  return values;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

inline std::string name_of(models::cpu::isa level) {
  return std::string{models::cpu::to_string_view(level)};
}

} // namespace troupe::test
