#pragma once

#include "troupe/models/cpu/kernels/table.hpp"

/// Exponentials over `simd`, which the including source has defined.
namespace troupe::models::cpu {
namespace {

inline constexpr float smallest_exponent =
    -87.336f; ///< Below it e^x is no normal number: zero here.
inline constexpr float largest_exponent = 88.722f;

/// e^x for x up to `largest_exponent`, within 2 units in the last place; 0 below
/// `smallest_exponent` and for minus infinity, a NaN for a NaN. e^x = 2^n * e^r with whole n and
/// |r| <= ln 2 / 2; ln 2 is subtracted in two parts (Cody and Waite), e^r is its Taylor polynomial
/// of degree 7, whose remainder there is below 6e-9.
inline simd::vec bounded_exp(simd::vec x) {
  const simd::vec n = simd::round(simd::mul(x, simd::set1(1.44269504088896341f)));
  simd::vec r = simd::fnma(n, simd::set1(0.693359375f), x);
  r = simd::fnma(n, simd::set1(-2.12194440e-4f), r);
  simd::vec y = simd::set1(1.0f / 5040);
  y = simd::fma(y, r, simd::set1(1.0f / 720));
  y = simd::fma(y, r, simd::set1(1.0f / 120));
  y = simd::fma(y, r, simd::set1(1.0f / 24));
  y = simd::fma(y, r, simd::set1(1.0f / 6));
  y = simd::fma(y, r, simd::set1(0.5f));
  y = simd::fma(y, r, simd::set1(1.0f));
  y = simd::fma(y, r, simd::set1(1.0f));
  // What came out of a number too small, or of minus infinity, is replaced here.
  return simd::zero_below(x, simd::set1(smallest_exponent), simd::scale(y, n));
}

/// The same for any x: about 3.4e38 above `largest_exponent`.
inline simd::vec exp(simd::vec x) {
  return bounded_exp(simd::min(simd::set1(largest_exponent), x));
}

/// x / (1 + e^-y)
inline simd::vec times_sigmoid(simd::vec x, simd::vec y) {
  return simd::div(x, simd::add(simd::set1(1.0f), exp(simd::sub(simd::zero(), y))));
}

} // namespace
} // namespace troupe::models::cpu
