#include <algorithm>

#include "troupe/models/cuda/kernels/gemm.hpp"
#include "troupe/models/cuda/kernels/quantize.hpp"

#include "support.hpp"

namespace troupe::test {

namespace {

using models::code_row_bytes;
using models::fp4_block;
using models::fp4_code;
using models::fp4_scale_span;
using models::fp4_values;
using models::int8_codes;
using models::int8_factor;
using models::outlier_threshold;
using models::quantization;

struct quantized_case {
  quantization how = quantization::int8;
  element type = element::bf16; ///< The compute type.
  uint32_t tokens = 1, n = 64, k = 64;
  element out = element::fp32;
  bool bias = false, accumulate = false, gated = false, transposed = false;
  activation function = activation::none;
  int norm = 0; ///< 0 none, 1 rms, 2 layer with bias

  std::string name() const {
    return std::string{how == quantization::int8 ? "int8" : "fp4"} + " " +
           (type == element::bf16   ? "bf16"
            : type == element::fp16 ? "fp16"
                                    : "fp32") +
           " T=" + std::to_string(tokens) + " n=" + std::to_string(n) + " k=" + std::to_string(k) +
           (out == element::fp32 ? " fp32 out" : "") + (bias ? " bias" : "") +
           (accumulate ? " accumulate" : "") + (gated ? " gated" : "") +
           (transposed ? " transposed" : "") + (norm != 0 ? " norm " + std::to_string(norm) : "");
  }
};

float half(double x) {
  return static_cast<float>(rounded(element::fp16, x));
}

/// A weight as a file has it, what it becomes on the device, and what it should become.
struct quantized_weight {
  tensor stored;
  device_memory codes, scales, largest;
  weight on_device;
  std::vector<double> values; ///< [n, k], after quantizing.
  std::vector<uint8_t> want_codes;
  std::vector<float> want_scales;

  quantized_weight(const quantized_case& c, std::mt19937& random, const float* bias)
      : stored(c.type, c.transposed ? c.k : c.n, c.transposed ? c.n : c.k),
        codes(c.n * code_row_bytes(c.how, c.k), 0), scales(size_t{c.n} * c.k * 4, 0),
        largest((size_t{c.n} * c.k / fp4_block + 1) * 4), values(size_t{c.n} * c.k),
        want_codes(c.n * code_row_bytes(c.how, c.k)) {
    stored.randomize(random, 2 / std::sqrt(static_cast<double>(c.k)));
    on_device = {codes.data(), c.type, c.n, c.k, bias, c.how, static_cast<float*>(scales.data())};
    const auto at = [&](size_t row, size_t column) {
      return static_cast<float>(c.transposed ? stored.at(column, row) : stored.at(row, column));
    };
    const bool eight = c.how == quantization::int8;
    const size_t span = fp4_scale_span(c.k);
    want_scales.resize(eight ? c.n : c.k / span * c.n);
    const size_t group = eight ? c.k : fp4_block;
    std::vector<float> largest_of(values.size() / group + 1);
    for (size_t i = 0; i < values.size(); ++i) {
      const float v = at(i / c.k, i % c.k);
      auto& most = largest_of[i / group];
      most = std::max(most, std::abs(eight ? half(static_cast<double>(v)) : v));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t row = i / c.k, column = i % c.k;
      const float most = largest_of[i / group];
      const float v = at(row, column);
      if (eight) {
        const float code = std::nearbyint(half(static_cast<double>(v)) * int8_factor(most));
        want_codes[i] = static_cast<uint8_t>(static_cast<int>(code) + 128);
        want_scales[row] = most / int8_codes;
        values[i] = static_cast<double>(code) * static_cast<double>(want_scales[row]);
      } else {
        const auto code = fp4_code(v * (1 / most));
        auto& both = want_codes[row * code_row_bytes(c.how, c.k) + column / 2];
        both = static_cast<uint8_t>(column % 2 == 0 ? code : both | code << 4);
        want_scales[column / span * c.n + row] = most;
        values[i] = static_cast<double>(fp4_values[code]) * static_cast<double>(most);
      }
    }
  }

  void quantize(report& r, const bench_place& p, const quantized_case& c) {
    // In two pieces, as loading does it, where the file's order allows that.
    const uint32_t first = c.transposed || c.n <= 64 ? c.n : 64;
    TROUPE_MUST(quantize_weight(p.on, stored.view().data, c.type, c.transposed, first, 0, on_device,
                                static_cast<float*>(largest.data())));
    if (first < c.n)
      TROUPE_MUST(quantize_weight(
          p.on,
          static_cast<const char*>(stored.view().data) + size_t{first} * c.k * size_of(c.type),
          c.type, false, c.n - first, first, on_device, static_cast<float*>(largest.data())));
    p.wait();
    std::vector<uint8_t> got(want_codes.size());
    std::vector<float> got_scales(want_scales.size());
    TROUPE_MUST(cudaMemcpy(got.data(), codes.data(), got.size(), cudaMemcpyDeviceToHost));
    TROUPE_MUST(cudaMemcpy(got_scales.data(), scales.data(), got_scales.size() * 4,
                           cudaMemcpyDeviceToHost));
    r.expect(got == want_codes, c.name() + ": other codes");
    r.expect(got_scales == want_scales, c.name() + ": other scales");
  }
};

/// A row of activations as the product takes it.
void take(const quantized_case& c, double* row) {
  if (c.how != quantization::int8)
    return;
  float most = 0;
  for (uint32_t i = 0; i < c.k; ++i)
    if (std::abs(half(row[i])) < outlier_threshold)
      most = std::max(most, std::abs(half(row[i])));
  for (uint32_t i = 0; i < c.k; ++i)
    if (std::abs(half(row[i])) < outlier_threshold)
      row[i] = static_cast<double>(std::nearbyint(half(row[i]) * int8_factor(most))) *
               static_cast<double>(most / int8_codes);
}

void run_case(report& r, const bench_place& p, std::mt19937& random, const quantized_case& c,
              gemm_library* library) {
  const auto bias = random_floats(random, c.n, -1, 1);
  const auto bias_data = floats_of(bias);
  quantized_weight w(c, random, c.bias ? bias_data.data() : nullptr);
  w.quantize(r, p, c);
  const auto scale = random_floats(random, c.k, 0.5, 1.5);
  const auto shift = random_floats(random, c.k, -0.5, 0.5);
  const auto scale_data = floats_of(scale), shift_data = floats_of(shift);
  norm before;
  before.function = c.norm == 2 ? norm_function::layer : norm_function::rms;
  before.weight = scale_data.data();
  before.bias = c.norm == 2 ? shift_data.data() : nullptr;
  tensor x(c.norm != 0 ? element::fp32 : c.type, c.tokens, c.k, 8),
      y(c.out, c.tokens, c.gated ? c.n / 2 : c.n, 8);
  x.randomize(random, 3);
  // Outliers in most rows, one of them far out; a row of small numbers.
  const double far_out = c.out == element::fp16 ? -100 : -3000;
  for (uint32_t t = 0; t < c.tokens; ++t) {
    if (t % 3 != 1)
      x.at(t, (t * 17 + 5) % c.k) = rounded(c.type, t == 2 ? far_out : 11);
    if (t == 4)
      for (uint32_t i = 0; i < c.k; ++i)
        x.at(t, i) = rounded(c.type, x.at(t, i) * 1e-3);
  }
  x.upload();
  if (c.accumulate)
    y.randomize(random);
  std::vector<double> want;
  for (uint32_t t = 0; t < c.tokens; ++t) {
    std::vector<double> row(x.values.begin() + static_cast<ptrdiff_t>(size_t{t} * c.k),
                            x.values.begin() + static_cast<ptrdiff_t>(size_t{t + 1} * c.k));
    if (c.norm != 0) {
      reference_norm(before.function, static_cast<double>(before.epsilon), scale,
                     c.norm == 2 ? shift : std::vector<double>{}, row.data(), c.k);
      for (auto& v : row)
        v = rounded(c.type, v);
    }
    take(c, row.data());
    const auto product = [&](uint32_t o) {
      double sum = c.bias ? bias[o] : 0;
      for (uint32_t i = 0; i < c.k; ++i)
        sum += row[i] * w.values[size_t{o} * c.k + i];
      return sum;
    };
    for (uint32_t o = 0; o < y.columns(); ++o) {
      double v = reference_activation(c.function, product(o));
      if (c.gated)
        v *= product(y.columns() + o);
      want.push_back(v + (c.accumulate ? y.at(t, o) : 0));
    }
  }
  linear_call call{.x = x.view(),
                   .before = c.norm != 0 ? &before : nullptr,
                   .by = w.on_device,
                   .function = c.function,
                   .gated = c.gated,
                   .accumulate = c.accumulate,
                   .y = y.view(),
                   .scratch = nullptr};
  device_memory scratch(linear_scratch_bytes(call));
  call.scratch = scratch.data();
  TROUPE_MUST(linear(p.on, call, library));
  p.wait();
  r.expect(y.download(), c.name() + ": wrote into the padding");
  double exact = c.type == element::fp32 ? 1e-5 : 5e-4;
  // A normalised value may round to the other neighbour than the reference's, and to another code.
  if (c.norm != 0)
    exact += c.how == quantization::int8 ? 4e-3 : precision_of(c.type) * 0.25;
  r.close(y.values, want, exact + (c.out == element::fp32 ? 0 : precision_of(c.out)), c.name());
}

} // namespace

void test_quantized(report& r, const bench_place& p) {
  constexpr size_t workspace_bytes = 32 << 20;
  device_memory workspace(workspace_bytes);
  std::string problem;
  const auto library = open_gemm_library(workspace.data(), workspace_bytes, problem);
  if (!library)
    std::printf("quantized products: without cuBLASLt: %s\n", problem.c_str());
  std::mt19937 random(3);
  const auto wide = r.small() ? 128u : 1152u;
  for (const auto how : {quantization::int8, quantization::fp4})
    for (const auto type : {element::bf16, element::fp16, element::fp32}) {
      for (const uint32_t tokens : {1u, 2u, 8u, 9u, 16u, 17u, 40u, 64u, 65u, 130u}) {
        run_case(r, p, random, {.how = how, .type = type, .tokens = tokens, .n = 96, .k = wide},
                 library.get());
        run_case(r, p, random,
                 {.how = how,
                  .type = type,
                  .tokens = tokens,
                  .n = 176,
                  .k = 192,
                  .out = type,
                  .bias = true,
                  .gated = true,
                  .function = activation::silu},
                 library.get());
        run_case(r, p, random,
                 {.how = how,
                  .type = type,
                  .tokens = tokens,
                  .n = 200,
                  .k = 320,
                  .bias = true,
                  .accumulate = true},
                 tokens % 2 == 0 ? library.get() : nullptr);
      }
      for (const int norm : {1, 2})
        for (const uint32_t k : {64u, 192u, 33u})
          for (const uint32_t tokens : {1u, 9u, 70u})
            run_case(r, p, random,
                     {.how = how,
                      .type = type,
                      .tokens = tokens,
                      .n = 96,
                      .k = k,
                      .out = type,
                      .bias = norm == 2,
                      .gated = tokens == 9,
                      .norm = norm},
                     k % 8 == 0 ? library.get() : nullptr);
      // Features that are no multiple of a block or even odd, outputs that are no whole tiles.
      for (const uint32_t k : {40u, 48u, 33u, 64u})
        for (const uint32_t tokens : {1u, 5u, 70u})
          run_case(r, p, random,
                   {.how = how,
                    .type = type,
                    .tokens = tokens,
                    .n = 74,
                    .k = k,
                    .out = type,
                    .function = activation::gelu_tanh},
                   k % 8 == 0 ? library.get() : nullptr);
      run_case(r, p, random,
               {.how = how, .type = type, .tokens = 3, .n = 96, .k = 128, .transposed = true},
               library.get());
    }
  // More than one slice of dequantized weights.
  if (!r.small())
    for (const auto how : {quantization::int8, quantization::fp4})
      run_case(r, p, random,
               {.how = how,
                .type = element::bf16,
                .tokens = 66,
                .n = 18000,
                .k = 1024,
                .out = element::bf16,
                .gated = true,
                .function = activation::silu},
               library.get());
}

} // namespace troupe::test
