#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "troupe/models/quantization.hpp"

/// Vectors of 16 floats. Everything has internal linkage: see kernels/table.hpp.
namespace troupe::models::cpu {
namespace {

struct simd {
  using vec = __m512;
  static constexpr size_t width = 16;
  static constexpr size_t tile_rows = 14;    ///< 28 sums, 2 weights and 1 x in 32 registers.
  static constexpr size_t query_rows = 6;    ///< Queries that attention takes at once ...
  static constexpr size_t key_vectors = 2;   ///< ... times so many vectors of positions for scores,
  static constexpr size_t value_vectors = 4; ///< ... or of head dimensions for outputs.

  static vec zero() { return _mm512_setzero_ps(); }
  static vec set1(float x) { return _mm512_set1_ps(x); }
  static vec load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, vec x) { _mm512_storeu_ps(p, x); }
  static vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
  static vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
  static vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
  static vec div(vec a, vec b) { return _mm512_div_ps(a, b); }
  static vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
  static vec fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
  /// The second operand where one is a NaN.
  static vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
  static vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
  static float first(vec x) { return _mm512_cvtss_f32(x); }
  static vec round(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  /// x * 2^n for whole n that leave x * 2^n a normal number or make it zero.
  static vec scale(vec x, vec n) { return _mm512_scalef_ps(x, n); }
  static vec zero_below(vec x, vec limit, vec value) {
    return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), _mm512_setzero_ps());
  }

  static __mmask16 lanes(size_t n) { return static_cast<__mmask16>((1U << n) - 1); }
  /// The first n < width elements, zeros behind them.
  static vec load_some(const float* p, size_t n) { return _mm512_maskz_loadu_ps(lanes(n), p); }
  static void store_some(float* p, vec x, size_t n) { _mm512_mask_storeu_ps(p, lanes(n), x); }
  /// Lane i stays where from <= first + i < to, else it becomes `other`.
  static vec keep_between(vec x, int32_t first, int32_t from, int32_t to, vec other) {
    const __m512i index =
        _mm512_add_epi32(_mm512_set1_epi32(first),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __mmask16 keep = _mm512_cmp_epi32_mask(index, _mm512_set1_epi32(from), _MM_CMPINT_NLT) &
                           _mm512_cmp_epi32_mask(index, _mm512_set1_epi32(to), _MM_CMPINT_LT);
    return _mm512_mask_mov_ps(other, keep, x);
  }

  static float sum(vec x) {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static float largest(vec x) {
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  static vec widen(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static vec load(const uint16_t* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static vec load_some(const uint16_t* p, size_t n) {
    return widen(_mm256_maskz_loadu_epi16(lanes(n), p));
  }
  /// Two runs of 8: for pages of 8 tokens.
  static vec load_halves(const float* a, const float* b) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1);
  }
  static vec load_halves(const uint16_t* a, const uint16_t* b) {
    return widen(_mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)),
                                  _mm_loadu_si128(reinterpret_cast<const __m128i*>(a))));
  }
  /// Whole numbers.
  static vec load(const int8_t* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  using codes = __m512i;
  /// 16 bytes with two fp4 codes each.
  static codes load_pairs(const std::byte* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  struct code_table {
    vec values = _mm512_loadu_ps(fp4_values);
    // The permutation looks at the lowest four bits of an index only.
    vec lower(codes c) const { return _mm512_permutexvar_ps(c, values); }
    vec upper(codes c) const { return _mm512_permutexvar_ps(_mm512_srli_epi32(c, 4), values); }
  };
  /// The even ones of 16 bf16 pairs.
  static vec load_even(const uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
  }
  /// The odd ones of 16 bf16 pairs.
  static vec load_odd(const uint16_t* p) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000U));
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper));
  }
};

} // namespace
} // namespace troupe::models::cpu
