#pragma once

#include <immintrin.h>

#include <cstddef>

#include "troupe/models/cpu/kernels/table.hpp"

/// What the product's inner loops share, over `simd`, which the including source has defined.
namespace troupe::models::cpu {
namespace {

inline constexpr size_t panel_width = 32;

/// Fetches the weights that the coming steps will ask for.
inline void look_ahead(const std::byte* ahead, size_t step) {
  _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
  _mm_prefetch(reinterpret_cast<const char*>(ahead + step / 2), _MM_HINT_T0);
}

template <size_t Rows, size_t Vectors>
inline void load_sums(simd::vec (&sums)[Rows][Vectors], const tile& t, size_t column) {
#pragma GCC unroll 16
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      sums[r][v] =
          t.resume ? simd::load(t.sums + r * panel_width + column + v * simd::width) : simd::zero();
}

template <size_t Rows, size_t Vectors>
inline void store_sums(const simd::vec (&sums)[Rows][Vectors], const tile& t, size_t column) {
#pragma GCC unroll 16
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      simd::store(t.sums + r * panel_width + column + v * simd::width, sums[r][v]);
}

/// Runs the kernel that is made for this number of rows.
template <template <size_t> class Kernel, size_t Rows = 1>
void choose(size_t rows, const tile& t) {
  if (rows == Rows)
    Kernel<Rows>::run(t);
  else if constexpr (Rows < simd::tile_rows)
    choose<Kernel, Rows + 1>(rows, t);
}

} // namespace
} // namespace troupe::models::cpu
