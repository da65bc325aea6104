#include "troupe/models/cuda/kernels/gemm.hpp"
#include "troupe/models/cuda/kernels/small_batch.hpp"

#include "support.hpp"

namespace troupe::test {

namespace {

struct product_case {
  element type = element::bf16;
  uint32_t tokens = 1, n = 64, k = 64;
  element out = element::fp32;
  bool bias = false, accumulate = false, gated = false;
  activation function = activation::none;
  int norm = 0; ///< 0 none, 1 rms, 2 layer with bias
  uint32_t padding = 8;

  std::string name() const {
    return std::string{type == element::bf16   ? "bf16"
                       : type == element::fp16 ? "fp16"
                                               : "fp32"} +
           " T=" + std::to_string(tokens) + " n=" + std::to_string(n) + " k=" + std::to_string(k) +
           (out == element::fp32 ? " fp32 out" : "") + (bias ? " bias" : "") +
           (accumulate ? " accumulate" : "") + (gated ? " gated" : "") +
           (function != activation::none ? " activated" : "") +
           (norm != 0 ? " norm " + std::to_string(norm) : "");
  }
};

enum class path { small, any, library, dispatch };

/// What a case works on, and what should come out.
struct product_fixture {
  product_case c;
  tensor x, w, y;
  std::vector<double> bias, scale, shift, want;
  device_vector<float> bias_data, scale_data, shift_data;
  norm before;
  device_memory scratch;
  linear_call call;

  product_fixture(const product_case& c_, std::mt19937& random)
      : c(c_), x(c.norm != 0 ? element::fp32 : c.type, c.tokens, c.k, c.padding),
        w(c.type, c.n, c.k), y(c.out, c.tokens, c.gated ? c.n / 2 : c.n, c.padding),
        bias(random_floats(random, c.n, -1, 1)), scale(random_floats(random, c.k, 0.5, 1.5)),
        shift(random_floats(random, c.k, -0.5, 0.5)), bias_data(floats_of(bias)),
        scale_data(floats_of(scale)), shift_data(floats_of(shift)),
        scratch(size_t{c.tokens} * (c.k + c.n) * 4 + 1024) {
    x.randomize(random, c.norm != 0 ? 3 : 1);
    w.randomize(random, 2 / std::sqrt(static_cast<double>(c.k)));
    if (c.accumulate)
      y.randomize(random);
    before.function = c.norm == 2 ? norm_function::layer : norm_function::rms;
    before.weight = scale_data.data();
    before.bias = c.norm == 2 ? shift_data.data() : nullptr;
    call = {.x = x.view(),
            .before = c.norm != 0 ? &before : nullptr,
            .by = {w.view().data, c.type, c.n, c.k, c.bias ? bias_data.data() : nullptr},
            .function = c.function,
            .gated = c.gated,
            .accumulate = c.accumulate,
            .y = y.view(),
            .scratch = scratch.data()};
    compute();
  }

  void compute() {
    auto rows = x.values;
    if (c.norm != 0)
      for (uint32_t t = 0; t < c.tokens; ++t) {
        reference_norm(before.function, static_cast<double>(before.epsilon), scale,
                       c.norm == 2 ? shift : std::vector<double>{}, rows.data() + size_t{t} * c.k,
                       c.k);
        for (uint32_t i = 0; i < c.k; ++i)
          rows[size_t{t} * c.k + i] = rounded(c.type, rows[size_t{t} * c.k + i]);
      }
    auto product = [&](uint32_t t, uint32_t row) {
      double sum = c.bias ? bias[row] : 0;
      for (uint32_t i = 0; i < c.k; ++i)
        sum += rows[size_t{t} * c.k + i] * w.at(row, i);
      return sum;
    };
    for (uint32_t t = 0; t < c.tokens; ++t)
      for (uint32_t o = 0; o < y.columns(); ++o) {
        double v = reference_activation(c.function, product(t, o));
        if (c.gated)
          v *= product(t, y.columns() + o);
        want.push_back(v + (c.accumulate ? y.at(t, o) : 0));
      }
  }
};

void run_case(report& r, const bench_place& p, std::mt19937& random, const product_case& c,
              path how, gemm_library* library = nullptr) {
  product_fixture f(c, random);
  cudaError_t e = cudaSuccess;
  if (how == path::small)
    e = multiply_small(p.on, f.call);
  else if (how == path::any)
    e = multiply_any(p.on, f.call);
  else
    e = linear(p.on, f.call, library);
  TROUPE_MUST(e);
  p.wait();
  r.expect(f.y.download(), c.name() + ": wrote into the padding");
  double tolerance = c.out == element::fp32 ? 1e-5 : precision_of(c.out);
  // A normalised value may round to the other neighbour than the reference's.
  if (c.norm != 0)
    tolerance += precision_of(c.type) * 0.25;
  if (how == path::library && (c.gated || c.bias || c.function != activation::none))
    tolerance += precision_of(c.type);
  r.close(f.y.values, f.want, tolerance, c.name());
}

/// A token's bits must not depend on the batch, on overlap, or on a graph.
void same_bits(report& r, const bench_place& p, std::mt19937& random, element type) {
  product_case c{.type = type, .tokens = 16, .n = 200, .k = 648};
  product_fixture f(c, random);
  TROUPE_MUST(multiply_small(p.on, f.call));
  p.wait();
  f.y.download();
  const auto whole = f.y.values;
  for (const uint32_t tokens : {1u, 7u, 8u, 9u}) {
    auto call = f.call;
    call.x.rows = call.y.rows = tokens;
    auto plain = p.on;
    plain.overlap = tokens % 2 == 0;
    TROUPE_MUST(multiply_small(plain, call));
    p.wait();
    f.y.download();
    r.expect(f.y.values == whole, "other bits for T=" + std::to_string(tokens));
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  TROUPE_MUST(cudaStreamBeginCapture(p.on.stream, cudaStreamCaptureModeThreadLocal));
  TROUPE_MUST(multiply_small(p.on, f.call));
  TROUPE_MUST(multiply_small(p.on, f.call));
  TROUPE_MUST(cudaStreamEndCapture(p.on.stream, &graph));
  TROUPE_MUST(cudaGraphInstantiate(&exec, graph, 0));
  TROUPE_MUST(cudaGraphLaunch(exec, p.on.stream));
  p.wait();
  TROUPE_MUST(cudaGraphExecDestroy(exec));
  TROUPE_MUST(cudaGraphDestroy(graph));
  f.y.download();
  r.expect(f.y.values == whole, "other bits in a graph");
}

} // namespace

void test_products(report& r, const bench_place& p) {
  std::mt19937 random(1);
  std::vector<std::pair<uint32_t, uint32_t>> shapes = {
      {8, 8}, {50, 64}, {200, 136}, {64, 576}, {1003, 128}};
  if (!r.small()) {
    shapes.push_back({2100, 1024});
    shapes.push_back({1200, 2056});
  }
  for (const auto type : {element::bf16, element::fp16})
    for (const auto& [n, k] : shapes) {
      for (const uint32_t tokens : {1u, 3u, 8u, 9u, 16u}) {
        run_case(r, p, random, {.type = type, .tokens = tokens, .n = n, .k = k}, path::small);
        run_case(r, p, random,
                 {.type = type,
                  .tokens = tokens,
                  .n = n / 2 * 2,
                  .k = k,
                  .out = type,
                  .bias = true,
                  .gated = true,
                  .function = activation::silu},
                 path::small);
      }
      run_case(r, p, random,
               {.type = type, .tokens = 4, .n = n, .k = k, .bias = true, .accumulate = true},
               path::small);
      run_case(r, p, random,
               {.type = type,
                .tokens = 5,
                .n = n,
                .k = k,
                .out = type,
                .function = activation::gelu_tanh,
                .padding = 0},
               path::small);
      for (const int norm : {1, 2})
        for (const uint32_t tokens : {1u, 6u})
          run_case(r, p, random,
                   {.type = type,
                    .tokens = tokens,
                    .n = n / 2 * 2,
                    .k = k,
                    .out = type,
                    .bias = norm == 2,
                    .gated = tokens == 6,
                    .norm = norm},
                   path::dispatch);
    }
  for (const auto type : {element::bf16, element::fp16, element::fp32}) {
    run_case(r, p, random,
             {.type = type, .tokens = 11, .n = 13, .k = 37, .bias = true, .padding = 3}, path::any);
    run_case(r, p, random,
             {.type = type,
              .tokens = 3,
              .n = 26,
              .k = 64,
              .out = type,
              .bias = true,
              .gated = true,
              .function = activation::gelu,
              .padding = 1},
             path::any);
    run_case(r, p, random, {.type = type, .tokens = 2, .n = 40, .k = 24, .accumulate = true},
             path::any);
    // Everything that `linear` puts together itself when there is no library.
    run_case(r, p, random,
             {.type = type,
              .tokens = 37,
              .n = 96,
              .k = 64,
              .out = type,
              .bias = true,
              .gated = true,
              .function = activation::silu,
              .norm = 1},
             path::dispatch);
    run_case(r, p, random,
             {.type = type, .tokens = 70, .n = 40, .k = 48, .bias = true, .accumulate = true},
             path::dispatch);
  }
  for (const auto type : {element::bf16, element::fp16})
    same_bits(r, p, random, type);
}

void test_gemm_library(report& r, const bench_place& p) {
  constexpr size_t workspace_bytes = 32 << 20;
  device_memory workspace(workspace_bytes);
  std::string problem;
  const auto library = open_gemm_library(workspace.data(), workspace_bytes, problem);
  if (!library) {
    std::printf("gemm library: skipped: %s\n", problem.c_str());
    return;
  }
  std::mt19937 random(2);
  for (const auto type : {element::bf16, element::fp16, element::fp32})
    for (const uint32_t tokens : {17u, 64u, 130u}) {
      const uint32_t n = r.small() ? 128 : 1024, k = r.small() ? 64 : 768;
      run_case(r, p, random, {.type = type, .tokens = tokens, .n = n, .k = k}, path::library,
               library.get());
      run_case(r, p, random, {.type = type, .tokens = tokens, .n = n, .k = k, .out = type},
               path::library, library.get());
      run_case(r, p, random,
               {.type = type, .tokens = tokens, .n = n, .k = k, .out = type, .bias = true},
               path::library, library.get());
      run_case(r, p, random,
               {.type = type, .tokens = tokens, .n = n, .k = k, .bias = true, .accumulate = true},
               path::library, library.get());
      run_case(r, p, random,
               {.type = type,
                .tokens = tokens,
                .n = n,
                .k = k,
                .out = type,
                .bias = true,
                .gated = true,
                .function = activation::silu,
                .norm = 1},
               path::library, library.get());
    }
  // The measured choice gives the product, too.
  product_fixture f({.tokens = 40, .n = 512, .k = 256}, random);
  TROUPE_MUST(library->prepare(p.on, f.call.x, f.call.by, false, f.call.y));
  TROUPE_MUST(library->multiply(p.on, f.call.x, f.call.by, false, f.call.y));
  p.wait();
  f.y.download();
  r.close(f.y.values, f.want, 1e-5, "after prepare");
}

} // namespace troupe::test
