#pragma once

#include <cstddef>
#include <cstdint>

#include "troupe/models/cpu/kernels/product_tile.hpp"

/// The matrix product's inner loops over `simd`, which the including source has defined. One sum
/// per output runs through all of k by fused multiply-adds, whatever the number of rows.
namespace troupe::models::cpu {
namespace {

/// sums[r] += x[r] * weights, of one k.
template <size_t Rows, size_t Vectors>
[[gnu::always_inline]] inline void add_products(const float* x, const simd::vec (&weights)[Vectors],
                                                simd::vec (&sums)[Rows][Vectors]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < Rows; ++r) {
    const simd::vec value = simd::set1(x[r]);
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      sums[r][v] = simd::fma(value, weights[v], sums[r][v]);
  }
}

/// Columns [column, column + Vectors * width) of a panel in fp32, or in int8 codes.
template <class Element, size_t Rows, size_t Vectors>
void columns_single(const tile& t, size_t column) {
  const float* x = static_cast<const float*>(t.x);
  const Element* w = static_cast<const Element*>(t.w) + column;
  const std::byte* ahead = t.ahead;
  const size_t ahead_step = t.ahead_step;
  simd::vec sums[Rows][Vectors];
  load_sums(sums, t, column);
  for (size_t k = t.steps; k > 0; --k) {
    simd::vec weights[Vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      weights[v] = simd::load(w + v * simd::width);
    look_ahead(ahead, ahead_step);
    add_products(x, weights, sums);
    x += Rows;
    w += panel_width;
    ahead += ahead_step;
  }
  store_sums(sums, t, column);
}

/// The same with bf16 weights that are widened; a step is two k.
template <size_t Rows, size_t Vectors>
void columns_bf16(const tile& t, size_t column) {
  const float* x = static_cast<const float*>(t.x);
  const uint16_t* w = static_cast<const uint16_t*>(t.w) + 2 * column;
  const std::byte* ahead = t.ahead;
  const size_t ahead_step = t.ahead_step;
  simd::vec sums[Rows][Vectors];
  load_sums(sums, t, column);
  for (size_t k = t.steps; k > 0; --k) {
    // Even and odd weights one after the other, because registers are short.
    simd::vec weights[Vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      weights[v] = simd::load_even(w + v * 2 * simd::width);
    look_ahead(ahead, ahead_step);
    add_products(x, weights, sums);
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      weights[v] = simd::load_odd(w + v * 2 * simd::width);
    add_products(x + Rows, weights, sums);
    x += 2 * Rows;
    w += 2 * panel_width;
    ahead += ahead_step;
  }
  store_sums(sums, t, column);
}

/// The same with fp4 weights: a step is a span, whose sum is scaled as a whole.
template <size_t Rows, size_t Vectors>
void columns_fp4(const tile& t, size_t column) {
  const float* x = static_cast<const float*>(t.x);
  const std::byte* w = static_cast<const std::byte*>(t.w);
  const std::byte* ahead = t.ahead;
  const size_t pairs = (t.span + 1) / 2;
  const size_t ahead_step = t.ahead_step / pairs;
  const simd::code_table table;
  for (size_t step = 0; step < t.steps; ++step) {
    const float* scales = reinterpret_cast<const float*>(w) + column;
    const std::byte* codes = w + panel_width * sizeof(float) + column;
    simd::vec sums[Rows][Vectors];
#pragma GCC unroll 16
    for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; ++v)
        sums[r][v] = simd::zero();
    const std::byte* line = ahead;
    for (size_t k = 0; k < t.span; k += 2) {
      simd::codes both[Vectors];
      simd::vec weights[Vectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; ++v) {
        both[v] = simd::load_pairs(codes + v * simd::width);
        weights[v] = table.lower(both[v]);
      }
      _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T0);
      line += ahead_step;
      add_products(x, weights, sums);
      x += Rows;
      codes += panel_width;
      if (k + 1 == t.span)
        break;
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; ++v)
        weights[v] = table.upper(both[v]);
      add_products(x, weights, sums);
      x += Rows;
    }
    const bool goes_on = t.resume || step > 0;
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v) {
      const simd::vec scale = simd::load(scales + v * simd::width);
#pragma GCC unroll 16
      for (size_t r = 0; r < Rows; ++r) {
        float* total = t.sums + r * panel_width + column + v * simd::width;
        simd::store(total,
                    simd::fma(sums[r][v], scale, goes_on ? simd::load(total) : simd::zero()));
      }
    }
    w += panel_width * sizeof(float) + pairs * panel_width;
    ahead += t.ahead_step;
  }
}

/// As many columns at once as leave the sums in registers.
template <size_t Rows>
inline constexpr size_t column_vectors = simd::width == 16 ? 2
                                         : Rows <= 2       ? 4
                                                           : 2;

template <size_t Rows>
void rows_fp32(const tile& t) {
  for (size_t column = 0; column < panel_width; column += column_vectors<Rows> * simd::width)
    columns_single<float, Rows, column_vectors<Rows>>(t, column);
}

template <size_t Rows>
void rows_bf16(const tile& t) {
  for (size_t column = 0; column < panel_width; column += column_vectors<Rows> * simd::width)
    columns_bf16<Rows, column_vectors<Rows>>(t, column);
}

template <size_t Rows>
struct fp32_kernel {
  static void run(const tile& t) { rows_fp32<Rows>(t); }
};

template <size_t Rows>
struct bf16_kernel {
  static void run(const tile& t) { rows_bf16<Rows>(t); }
};

template <size_t Rows>
struct int8_kernel {
  static void run(const tile& t) {
    for (size_t column = 0; column < panel_width; column += column_vectors<Rows> * simd::width)
      columns_single<int8_t, Rows, column_vectors<Rows>>(t, column);
  }
};

template <size_t Rows>
struct fp4_kernel {
  static void run(const tile& t) {
    for (size_t column = 0; column < panel_width; column += column_vectors<Rows> * simd::width)
      columns_fp4<Rows, column_vectors<Rows>>(t, column);
  }
};

void multiply_fp32(size_t rows, const tile& t) {
  choose<fp32_kernel>(rows, t);
}

void multiply_bf16(size_t rows, const tile& t) {
  choose<bf16_kernel>(rows, t);
}

void multiply_int8(size_t rows, const tile& t) {
  choose<int8_kernel>(rows, t);
}

void multiply_fp4(size_t rows, const tile& t) {
  choose<fp4_kernel>(rows, t);
}

/// One vector of one row's way out.
template <bool Whole>
inline void finish_vector(const tile_finish& f, size_t row, size_t column, size_t n) {
  const auto get = [n](const float* p) {
    if constexpr (Whole)
      return simd::load(p);
    else
      return simd::load_some(p, n);
  };
  simd::vec x = get(f.sums + row * panel_width + column);
  if (f.bias)
    x = simd::add(x, get(f.bias + column));
  if (f.residual)
    x = simd::add(x, get(f.residual + row * f.residual_stride + column));
  float* out = f.out + row * f.out_stride + column;
  if constexpr (Whole)
    simd::store(out, x);
  else
    simd::store_some(out, x, n);
}

void finish_tile(const tile_finish& f) {
  for (size_t row = 0; row < f.rows; ++row) {
    size_t column = 0;
    for (; column + simd::width <= f.columns; column += simd::width)
      finish_vector<true>(f, row, column, simd::width);
    if (column < f.columns)
      finish_vector<false>(f, row, column, f.columns - column);
  }
}

} // namespace
} // namespace troupe::models::cpu
