#pragma once

#include <cstdint>
#include <initializer_list>

/// Sizes that steps are filled up to, so that few shapes occur: a recording serves a whole bucket,
/// and so does the choice of a matrix product's algorithm.
namespace troupe::models::cuda {

constexpr uint32_t rounded_up(uint32_t n, uint32_t to) {
  return (n + to - 1) / to * to;
}

/// For steps of one-token rows: 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, then by 128.
constexpr uint32_t rows_bucket(uint32_t rows) {
  for (uint32_t size : {1u, 2u, 4u, 8u, 16u, 24u, 32u, 48u, 64u, 96u, 128u, 192u, 256u})
    if (rows <= size)
      return size;
  return rounded_up(rows, 128);
}

/// For steps with prompts: as above up to 256, then by 128, from 2048 on by 256.
constexpr uint32_t tokens_bucket(uint32_t tokens) {
  return tokens <= 2048 ? rows_bucket(tokens) : rounded_up(tokens, 256);
}

/// Classes of contexts: attention is cut into as many parts as suit the longest row of the step.
/// 1024, 4096, 16384, ..., at most `most`.
constexpr uint32_t context_class(uint32_t longest, uint32_t most) {
  uint64_t size = 1024;
  while (size < longest)
    size *= 4;
  return static_cast<uint32_t>(size < most ? size : most);
}

} // namespace troupe::models::cuda
