// The passes of row_kernels.hpp for one vector width. Included once by each row_kernels_ISA.cpp,
// which defines TROUPE_LANES (floats per register) and is compiled with that instruction set's
// flags. Calls no inline function of the standard library: the linker might keep this file's copy
// for everyone.
#include "troupe/models/sampling/row_kernels.hpp"

namespace troupe::models::sampling {
namespace {

constexpr size_t lanes = TROUPE_LANES;
constexpr size_t group = 16; ///< Accumulator lanes, whatever the register width.
constexpr size_t parts = group / lanes;

using floats [[gnu::vector_size(lanes * sizeof(float))]] = float;
using ints [[gnu::vector_size(lanes * sizeof(float))]] = int32_t;

constexpr float lowest = -__builtin_inff();

floats load(const float* from) {
  floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

void store(float* to, floats v) {
  __builtin_memcpy(to, &v, sizeof v);
}

floats all(float value) {
  return floats{} + value;
}

/// exp for arguments <= 0, relative error about 1e-7; 0 below -87, NaN for NaN.
/// Source: Cephes expf (polynomial and the two-part ln 2), without its branches.
floats exp_of(floats x) {
  const floats magic = all(12582912.0f); // 1.5 * 2^23: adding it rounds to the nearest integer.
  const floats clamped = x < -87.0f ? all(-87.0f) : x;
  const floats shifted = clamped * 1.44269504088896341f + magic;
  const floats n = shifted - magic;
  const floats r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const ints exponent = ((ints)shifted - 0x4B400000 + 127) << 23;
  const floats result = p * (floats)exponent;
  return x < -87.0f ? all(0.0f) : result;
}

/// Folds 16 lanes pairwise, the same way for every width.
float sum_of(const floats (&v)[parts]) {
  float lane[group];
  for (size_t part = 0; part < parts; ++part)
    store(lane + part * lanes, v[part]);
  for (size_t half = group / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i)
      lane[i] += lane[i + half];
  return lane[0];
}

float max_of(const floats (&v)[parts]) {
  float lane[group];
  for (size_t part = 0; part < parts; ++part)
    store(lane + part * lanes, v[part]);
  for (size_t half = group / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i)
      lane[i] = lane[i + half] > lane[i] ? lane[i + half] : lane[i];
  return lane[0];
}

float max_of_block(const float* x) {
  floats best[parts];
  for (size_t part = 0; part < parts; ++part)
    best[part] = all(lowest);
  for (size_t i = 0; i < row_block; i += group)
    for (size_t part = 0; part < parts; ++part) {
      const floats v = load(x + i + part * lanes);
      best[part] = v > best[part] ? v : best[part];
    }
  return max_of(best);
}

float divide_block(const float* x, float divisor, float* out) {
  floats best[parts];
  for (size_t part = 0; part < parts; ++part)
    best[part] = all(lowest);
  for (size_t i = 0; i < row_block; i += group)
    for (size_t part = 0; part < parts; ++part) {
      const floats v = load(x + i + part * lanes) / divisor;
      best[part] = v > best[part] ? v : best[part];
      store(out + i + part * lanes, v);
    }
  return max_of(best);
}

template <bool Keep>
float exp_block(const float* x, float shift, float* out) {
  floats total[parts] = {};
  for (size_t i = 0; i < row_block; i += group)
    for (size_t part = 0; part < parts; ++part) {
      const floats v = exp_of(load(x + i + part * lanes) - shift);
      total[part] += v;
      if (Keep)
        store(out + i + part * lanes, v);
    }
  return sum_of(total);
}

float sum_block(const float* x) {
  floats total[parts] = {};
  for (size_t i = 0; i < row_block; i += group)
    for (size_t part = 0; part < parts; ++part)
      total[part] += load(x + i + part * lanes);
  return sum_of(total);
}

/// The row's incomplete last block, filled up with what changes no result, so that it goes the way
/// of the others.
struct padded {
  float values[row_block];
  padded(const float* x, size_t count, float filling = lowest) {
    for (size_t i = 0; i < row_block; ++i)
      values[i] = i < count ? x[i] : filling;
  }
};

void copy_out(const float* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i)
    to[i] = from[i];
}

void block_max(const float* x, size_t count, float* maxima) {
  const size_t whole = count / row_block, rest = count % row_block;
  for (size_t b = 0; b < whole; ++b)
    maxima[b] = max_of_block(x + b * row_block);
  if (rest > 0)
    maxima[whole] = max_of_block(padded{x + whole * row_block, rest}.values);
}

void divide(const float* x, size_t count, float divisor, float* out, float* maxima) {
  const size_t whole = count / row_block, rest = count % row_block;
  for (size_t b = 0; b < whole; ++b)
    maxima[b] = divide_block(x + b * row_block, divisor, out + b * row_block);
  if (rest > 0) {
    float result[row_block];
    maxima[whole] = divide_block(padded{x + whole * row_block, rest}.values, divisor, result);
    copy_out(result, rest, out + whole * row_block);
  }
}

double exp_sum(const float* x, size_t count, float shift) {
  const size_t whole = count / row_block, rest = count % row_block;
  double total = 0;
  for (size_t b = 0; b < whole; ++b)
    total += exp_block<false>(x + b * row_block, shift, nullptr);
  if (rest > 0)
    total += exp_block<false>(padded{x + whole * row_block, rest}.values, shift, nullptr);
  return total;
}

double exp_store(const float* x, size_t count, float shift, float* out, double* block_sums) {
  const size_t whole = count / row_block, rest = count % row_block;
  double total = 0;
  for (size_t b = 0; b < whole; ++b) {
    block_sums[b] = exp_block<true>(x + b * row_block, shift, out + b * row_block);
    total += block_sums[b];
  }
  if (rest > 0) {
    float result[row_block];
    block_sums[whole] = exp_block<true>(padded{x + whole * row_block, rest}.values, shift, result);
    total += block_sums[whole];
    copy_out(result, rest, out + whole * row_block);
  }
  return total;
}

double sum(const float* x, size_t count, double* block_sums) {
  const size_t whole = count / row_block, rest = count % row_block;
  double total = 0;
  for (size_t b = 0; b < whole; ++b)
    total += block_sums[b] = sum_block(x + b * row_block);
  if (rest > 0)
    total += block_sums[whole] = sum_block(padded{x + whole * row_block, rest, 0.0f}.values);
  return total;
}

} // namespace

extern const row_kernels TROUPE_TABLE = {TROUPE_TABLE_NAME, block_max, divide,
                                         exp_sum,           exp_store, sum};

} // namespace troupe::models::sampling
