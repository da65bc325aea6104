#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "troupe/models/activation.hpp"
#include "troupe/models/cpu/thread_pool.hpp"

namespace troupe::models {

/// Draws the weights of a model that has no files, to measure real geometry without a download.
/// Norms are ones, biases zeros, all else uniform with a standard deviation of 0.02, as models are
/// initialised. A value depends on seed, tensor and place alone. One thread at a time.
class random_weights {
public:
  explicit random_weights(uint64_t seed);

  /// Values [first, first + count) of a tensor; valid until the next call.
  /// @param type fp32, bf16 or fp16.
  const void* draw(std::string_view name, uint64_t first, size_t count, dtype type);

private:
  uint64_t seed_;
  cpu::thread_pool threads_;
  std::vector<std::byte> values_;
};

} // namespace troupe::models
