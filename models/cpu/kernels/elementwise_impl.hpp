#pragma once

#include <cstddef>
#include <cstdint>

#include "troupe/models/cpu/kernels/math_impl.hpp"
#include "troupe/models/cpu/kernels/table.hpp"

/// Row operations over `simd`, which the including source has defined.
namespace troupe::models::cpu {
namespace {

/// Calls `f(i, load, store)` for whole vectors and once for what is left, where load and store are
/// for as many elements as there are.
template <class F>
inline void for_vectors(size_t width, F&& f) {
  size_t i = 0;
  for (; i + simd::width <= width; i += simd::width)
    f(
        i, [](const float* p) { return simd::load(p); },
        [](float* p, simd::vec x) { simd::store(p, x); });
  if (const size_t left = width - i; left > 0)
    f(
        i, [left](const float* p) { return simd::load_some(p, left); },
        [left](float* p, simd::vec x) { simd::store_some(p, x, left); });
}

/// Sum of f(vector) over a row. Four sums hide the latency; what is left joins the first.
template <class F>
inline float sum_over(const float* x, size_t width, F&& f) {
  simd::vec sums[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
  size_t i = 0;
  for (; i + 4 * simd::width <= width; i += 4 * simd::width)
    for (size_t j = 0; j < 4; ++j)
      sums[j] = f(simd::load(x + i + j * simd::width), sums[j]);
  for (; i + simd::width <= width; i += simd::width)
    sums[0] = f(simd::load(x + i), sums[0]);
  float tail = 0;
  if (i < width) {
    // Only elements that exist: a difference from the mean is not zero behind them.
    alignas(64) float values[simd::width];
    simd::store(values, f(simd::load_some(x + i, width - i), simd::zero()));
    for (size_t j = 0; j < width - i; ++j)
      tail += values[j];
  }
  return simd::sum(simd::add(simd::add(sums[0], sums[1]), simd::add(sums[2], sums[3]))) + tail;
}

void rms_norm_row(const float* x, size_t width, const float* weight, float epsilon, float* out) {
  const float squares =
      sum_over(x, width, [](simd::vec v, simd::vec s) { return simd::fma(v, v, s); });
  const simd::vec factor =
      simd::set1(1.0f / __builtin_sqrtf(squares / static_cast<float>(width) + epsilon));
  for_vectors(width, [&](size_t i, auto load, auto store) {
    store(out + i, simd::mul(simd::mul(load(x + i), factor), load(weight + i)));
  });
}

void layer_norm_row(const float* x, size_t width, const float* weight, const float* bias,
                    float epsilon, float* out) {
  const auto count = static_cast<float>(width);
  const float mean =
      sum_over(x, width, [](simd::vec v, simd::vec s) { return simd::add(v, s); }) / count;
  const simd::vec middle = simd::set1(mean);
  const float squares = sum_over(x, width, [middle](simd::vec v, simd::vec s) {
    const simd::vec d = simd::sub(v, middle);
    return simd::fma(d, d, s);
  });
  const simd::vec factor = simd::set1(1.0f / __builtin_sqrtf(squares / count + epsilon));
  for_vectors(width, [&](size_t i, auto load, auto store) {
    simd::vec y = simd::mul(simd::sub(load(x + i), middle), factor);
    if (weight)
      y = simd::mul(y, load(weight + i));
    if (bias)
      y = simd::add(y, load(bias + i));
    store(out + i, y);
  });
}

void add_rows(const float* a, const float* b, size_t width, float* out) {
  for_vectors(width, [&](size_t i, auto load, auto store) {
    store(out + i, simd::add(load(a + i), load(b + i)));
  });
}

void silu_row(const float* x, const float* up, size_t width, float* out) {
  for_vectors(width, [&](size_t i, auto load, auto store) {
    const simd::vec v = load(x + i);
    const simd::vec y = times_sigmoid(v, v);
    store(out + i, up ? simd::mul(y, load(up + i)) : y);
  });
}

/// 0.5 * x * (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) * (x + 0.044715 * x^3).
void gelu_tanh_row(const float* x, const float* up, size_t width, float* out) {
  const simd::vec cubic = simd::set1(0.044715f);
  const simd::vec outer = simd::set1(2 * 0.79788456080286535588f);
  for_vectors(width, [&](size_t i, auto load, auto store) {
    const simd::vec v = load(x + i);
    const simd::vec u = simd::fma(simd::mul(cubic, simd::mul(v, v)), v, v);
    const simd::vec y = times_sigmoid(v, simd::mul(outer, u));
    store(out + i, up ? simd::mul(y, load(up + i)) : y);
  });
}

/// As `fp32_to_bf16`, without branches, so that the compiler makes vectors of it.
void narrow_row(const float* x, size_t width, uint16_t* out) {
  for (size_t i = 0; i < width; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof(bits));
    const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40U;
    out[i] = static_cast<uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded);
  }
}

void rotate_heads(const rotation& r) {
  for (size_t h = 0; h < r.heads; ++h) {
    float* low = r.x + h * r.head_size;
    float* high = low + r.half;
    for_vectors(r.half, [&](size_t i, auto load, auto store) {
      const simd::vec a = load(low + i);
      const simd::vec b = load(high + i);
      const simd::vec c = load(r.cos + i);
      const simd::vec s = load(r.sin + i);
      store(low + i, simd::fnma(b, s, simd::mul(a, c)));
      store(high + i, simd::fma(a, s, simd::mul(b, c)));
    });
  }
}

} // namespace
} // namespace troupe::models::cpu
