#include "troupe/models/cpu/kernels/vector_avx512.hpp"

#include "troupe/models/cpu/kernels/pack_avx512.hpp"
#include "troupe/models/cpu/kernels/product_tile.hpp"

namespace troupe::models::cpu {
namespace {

template <size_t Rows>
struct pair_kernel {
  static void run(const tile& t) {
    constexpr size_t vectors = 2;
    const uint32_t* x = static_cast<const uint32_t*>(t.x);
    const uint32_t* w = static_cast<const uint32_t*>(t.w);
    const std::byte* ahead = t.ahead;
    const size_t ahead_step = t.ahead_step;
    simd::vec sums[Rows][vectors];
    load_sums(sums, t, 0);
    for (size_t k = t.steps; k > 0; --k) {
      __m512bh weights[vectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < vectors; ++v)
        weights[v] = (__m512bh)_mm512_loadu_si512(w + v * simd::width);
      look_ahead(ahead, ahead_step);
#pragma GCC unroll 16
      for (size_t r = 0; r < Rows; ++r) {
        const auto value = (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(x[r]));
#pragma GCC unroll 2
        for (size_t v = 0; v < vectors; ++v)
          sums[r][v] = _mm512_dpbf16_ps(sums[r][v], value, weights[v]);
      }
      x += Rows;
      w += panel_width;
      ahead += ahead_step;
    }
    store_sums(sums, t, 0);
  }
};

} // namespace

void multiply_bf16_pairs(size_t rows, const tile& t) {
  choose<pair_kernel>(rows, t);
}

void pack_bf16_pairs(const float* x, size_t stride, size_t rows, size_t k, uint32_t* out) {
  pack_transposed(rows, (k + 1) / 2, reinterpret_cast<float*>(out),
                  [x, stride, k](size_t row, size_t step, size_t) {
                    const float* from = x + row * stride + 2 * step;
                    const size_t left = k - 2 * step;
                    const simd::vec low =
                        left >= 16 ? simd::load(from) : simd::load_some(from, left);
                    const simd::vec high = left >= 32   ? simd::load(from + 16)
                                           : left <= 16 ? simd::zero()
                                                        : simd::load_some(from + 16, left - 16);
                    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low));
                  });
}

} // namespace troupe::models::cpu
