#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "troupe/models/quantization.hpp"

/// Vectors of 8 floats. Everything has internal linkage: see kernels/table.hpp.
namespace troupe::models::cpu {
namespace {

struct simd {
  using vec = __m256;
  static constexpr size_t width = 8;
  static constexpr size_t tile_rows = 6;     ///< 12 sums, 2 weights and 1 x in 16 registers.
  static constexpr size_t query_rows = 4;    ///< Queries that attention takes at once ...
  static constexpr size_t key_vectors = 2;   ///< ... times so many vectors of positions for scores,
  static constexpr size_t value_vectors = 2; ///< ... or of head dimensions for outputs.

  static vec zero() { return _mm256_setzero_ps(); }
  static vec set1(float x) { return _mm256_set1_ps(x); }
  static vec load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, vec x) { _mm256_storeu_ps(p, x); }
  static vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
  static vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
  static vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
  static vec div(vec a, vec b) { return _mm256_div_ps(a, b); }
  static vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
  static vec fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
  /// The second operand where one is a NaN.
  static vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
  static vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
  static float first(vec x) { return _mm256_cvtss_f32(x); }
  static vec round(vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  /// x * 2^n for whole n in [-126, 128]; in two steps, as 2^128 is no float.
  static vec scale(vec x, vec n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const auto power = [](__m256i e) {
      return _mm256_castsi256_ps(
          _mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
    };
    return _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(_mm256_sub_epi32(whole, half)));
  }
  static vec zero_below(vec x, vec limit, vec value) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), value);
  }

  static __m256i lane_index() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static __m256i lanes(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)), lane_index());
  }
  /// The first n < width elements, zeros behind them.
  static vec load_some(const float* p, size_t n) { return _mm256_maskload_ps(p, lanes(n)); }
  static void store_some(float* p, vec x, size_t n) { _mm256_maskstore_ps(p, lanes(n), x); }
  /// Lane i stays where from <= first + i < to, else it becomes `other`.
  static vec keep_between(vec x, int32_t first, int32_t from, int32_t to, vec other) {
    const __m256i index = _mm256_add_epi32(_mm256_set1_epi32(first), lane_index());
    const __m256i drop = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), index),
                                         _mm256_cmpgt_epi32(index, _mm256_set1_epi32(to - 1)));
    return _mm256_blendv_ps(x, other, _mm256_castsi256_ps(drop));
  }

  static float sum(vec x) {
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static float largest(vec x) {
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  static vec widen(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static vec load(const uint16_t* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static vec load_some(const uint16_t* p, size_t n) {
    alignas(16) uint16_t some[8] = {};
    for (size_t i = 0; i < n; ++i)
      some[i] = p[i];
    return load(some);
  }
  /// Two runs of `width` / 2: no page is that short here, so all of it is in the first.
  template <class Element>
  static vec load_halves(const Element* a, const Element*) {
    return load(a);
  }
  /// Whole numbers.
  static vec load(const int8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  using codes = __m256i;
  /// 8 bytes with two fp4 codes each.
  static codes load_pairs(const std::byte* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  struct code_table {
    vec values = _mm256_loadu_ps(fp4_values);
    // The permutation looks at the lowest three bits of an index; the fourth is the sign.
    vec lower(codes c) const {
      const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(c, _mm256_set1_epi32(8)), 28);
      return _mm256_xor_ps(_mm256_permutevar8x32_ps(values, c), _mm256_castsi256_ps(sign));
    }
    vec upper(codes c) const { return lower(_mm256_srli_epi32(c, 4)); }
  };
  /// The even ones of 8 bf16 pairs.
  static vec load_even(const uint16_t* p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), 16));
  }
  /// The odd ones of 8 bf16 pairs.
  static vec load_odd(const uint16_t* p) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000U));
    return _mm256_castsi256_ps(
        _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), upper));
  }
};

} // namespace
} // namespace troupe::models::cpu
