#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

/// How weights of linear layers may be kept in fewer bits than the arithmetic has. Both forms are
/// those of bitsandbytes (0.48: functional.py, backends/default/ops.py, csrc/kernels.cu), in its
/// defaults as transformers' BitsAndBytesConfig sets them, so that a model computes what it does
/// there.
///
/// int8, "LLM.int8()": a weight's row is rounded to fp16 and then to codes -127..127 of its largest
/// value. A row of activations is treated alike but for its outliers, values of `outlier_threshold`
/// and more, which are multiplied as they are. Every row of a step is taken for itself: in
/// bitsandbytes a row's outliers also keep its neighbours' values of the same column as they are,
/// which would let answers depend on the batch.
///
/// fp4: each `fp4_block` weights that follow each other in the matrix [n, k], rows end to end, are
/// codes of `fp4_values` times the largest of them. Activations stay as they are.
namespace troupe::models {

enum class quantization : uint8_t { none, int8, fp4 };

inline constexpr float int8_codes = 127;
inline constexpr float outlier_threshold = 6;
inline constexpr size_t fp4_block = 64;

/// What a value is multiplied with before it is rounded to its code. Weights of few bits lie just
/// between two codes so often that the order of these operations matters: it is bitsandbytes'.
constexpr float int8_factor(float largest) {
  return largest > 0 ? int8_codes * (1 / largest) : 0;
}

/// Codes 8 to 15 are the negatives of 0 to 7.
inline constexpr float fp4_values[16] = {
    0.0f,  0.0052083333f,  0.6666667f,  1.0f,  0.33333334f,  0.5f,  0.16666667f,  0.25f,
    -0.0f, -0.0052083333f, -0.6666667f, -1.0f, -0.33333334f, -0.5f, -0.16666667f, -0.25f};

/// The code of the value nearest to `x`, in [-1, 1]; a NaN (of a block of zeros) becomes 0.
constexpr uint8_t fp4_code(float x) {
  constexpr std::array<uint8_t, 8> by_size = {0, 1, 6, 7, 4, 5, 2, 3};
  const float size = x < 0 ? -x : x;
  // Halfway between neighbours.
  const int rank = (size > 0.00260417f) + (size > 0.0859375f) + (size > 0.20833333f) +
                   (size > 0.29166667f) + (size > 0.4166667f) + (size > 0.583333f) +
                   (size > 0.8333333f);
  return static_cast<uint8_t>(by_size[static_cast<size_t>(rank)] | (x < 0 ? 8 : 0));
}

/// Weights of one row that share a scale: all of a block, or a part of it where blocks run over the
/// ends of rows.
constexpr size_t fp4_scale_span(size_t k) {
  return std::gcd(k, fp4_block);
}

/// Bytes of a row's codes, and how many scales it has. @pre how is not none
constexpr size_t code_row_bytes(quantization how, size_t k) {
  return how == quantization::int8 ? k : (k + 1) / 2;
}
constexpr size_t scales_per_row(quantization how, size_t k) {
  return how == quantization::int8 ? 1 : k / fp4_scale_span(k);
}

/// Bytes of a matrix [n, k] with its scales. @param element Of a weight that is not quantized.
constexpr uint64_t weight_bytes(quantization how, uint64_t n, uint64_t k, uint64_t element) {
  return how == quantization::none
             ? n * k * element
             : n * (code_row_bytes(how, k) + scales_per_row(how, k) * sizeof(float));
}

} // namespace troupe::models
