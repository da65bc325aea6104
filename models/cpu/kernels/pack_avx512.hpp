#pragma once

#include <cstddef>

#include "troupe/models/cpu/kernels/vector_avx512.hpp"

/// Packing of x by transposing 16 x 16 elements in registers. Internal linkage: see
/// kernels/table.hpp.
namespace troupe::models::cpu {
namespace {

inline void transpose(simd::vec (&r)[16]) {
  simd::vec t[16];
  // Pairs of rows, then fours; then each 128-bit lane goes to its place.
#pragma GCC unroll 8
  for (size_t i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  const auto low = [](simd::vec a, simd::vec b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](simd::vec a, simd::vec b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
#pragma GCC unroll 4
  for (size_t i = 0; i < 16; i += 4) {
    r[i] = low(t[i], t[i + 2]);
    r[i + 1] = high(t[i], t[i + 2]);
    r[i + 2] = low(t[i + 1], t[i + 3]);
    r[i + 3] = high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (size_t j = 0; j < 4; ++j) {
    const simd::vec a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88);
    const simd::vec b = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);
    const simd::vec c = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
    const simd::vec d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_f32x4(a, c, 0x88);
    t[4 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
    t[8 + j] = _mm512_shuffle_f32x4(a, c, 0xdd);
    t[12 + j] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i)
    r[i] = t[i];
}

/// [rows][steps] to [steps][rows] of 32-bit elements, rows <= 16.
/// @param get `get(row, step, n)`: n <= 16 elements of a row from `step` on.
template <class Get>
inline void pack_transposed(size_t rows, size_t steps, float* out, Get&& get) {
  for (size_t step = 0; step < steps; step += 16) {
    const size_t count = steps - step < 16 ? steps - step : 16;
    simd::vec block[16];
#pragma GCC unroll 16
    for (size_t r = 0; r < 16; ++r)
      block[r] = r < rows ? get(r, step, count) : simd::zero();
    transpose(block);
    float* to = out + step * rows;
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; ++i)
      if (i < count)
        simd::store_some(to + i * rows, block[i], rows);
  }
}

} // namespace
} // namespace troupe::models::cpu
