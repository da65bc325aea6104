#include "troupe/models/cuda/kernels/device_code.hpp"

namespace troupe::models::cuda {

namespace {

struct arguments {
  norm by;
  float* in;
  size_t in_stride;
  const float* add;
  size_t add_stride;
  const uint32_t* rows;
  void* out;
  size_t out_stride;
  uint32_t columns;
};

/// A block per row. Up to `Kept` values per thread stay in registers between the passes; rows that
/// are longer are read again. With Wide a thread takes four columns at a time.
template <class Out, int Threads, int Kept, bool Wide>
__global__ void __launch_bounds__(Threads) norm_kernel(const arguments a) {
  constexpr int width = Wide ? 4 : 1;
  constexpr int pieces = Kept / width;
  __shared__ float shared[Threads / 32];
  release_next();
  // Weights come from memory, later than everything else: so they are asked for first.
  float weights[pieces][width];
#pragma unroll
  for (int i = 0; i < pieces; ++i)
    if (const uint32_t c = threadIdx.x * width + i * Threads * width; c < a.columns)
#pragma unroll
      for (int n = 0; n < width; ++n)
        weights[i][n] = a.by.weight[c + n];
  wait_for_previous();
  Out* out = static_cast<Out*>(a.out) + blockIdx.x * a.out_stride;
  const uint32_t row = a.rows != nullptr ? a.rows[blockIdx.x] : blockIdx.x;
  if (row == no_row) {
    for (uint32_t c = threadIdx.x; c < a.columns; c += Threads)
      out[c] = narrow<Out>(0);
    return;
  }
  float* in = a.in + row * a.in_stride;
  const float* add = a.add != nullptr ? a.add + row * a.add_stride : nullptr;
  const uint32_t step = Threads * width;

  float kept[pieces][width];
  auto load = [&](uint32_t c, float(&v)[width]) {
    if constexpr (Wide) {
      const float4 x = *reinterpret_cast<const float4*>(in + c);
      v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
    } else {
      v[0] = in[c];
    }
  };
  // Calls f(column, values, weights) for this thread's part of the row.
  auto each = [&](auto&& f) {
#pragma unroll
    for (int i = 0; i < pieces; ++i)
      if (const uint32_t c = threadIdx.x * width + i * step; c < a.columns)
        f(c, kept[i], weights[i]);
    for (uint32_t c = threadIdx.x * width + pieces * step; c < a.columns; c += step) {
      float v[width], w[width];
      load(c, v);
#pragma unroll
      for (int n = 0; n < width; ++n)
        w[n] = a.by.weight[c + n];
      f(c, v, w);
    }
  };
  float sum = 0;
  auto take = [&](uint32_t c, float(&v)[width]) {
    load(c, v);
    if (add != nullptr) {
#pragma unroll
      for (int i = 0; i < width; ++i)
        in[c + i] = v[i] += add[c + i];
    }
#pragma unroll
    for (int i = 0; i < width; ++i)
      sum += a.by.function == norm_function::rms ? v[i] * v[i] : v[i];
  };
#pragma unroll
  for (int i = 0; i < pieces; ++i)
    if (const uint32_t c = threadIdx.x * width + i * step; c < a.columns)
      take(c, kept[i]);
  for (uint32_t c = threadIdx.x * width + pieces * step; c < a.columns; c += step) {
    float v[width];
    take(c, v);
  }
  float mean = 0;
  float square = block_sum<Threads / 32>(sum, shared) / static_cast<float>(a.columns);
  if (a.by.function == norm_function::layer) {
    mean = square;
    sum = 0;
    each([&](uint32_t, const float(&v)[width], const float(&)[width]) {
#pragma unroll
      for (int i = 0; i < width; ++i)
        sum += (v[i] - mean) * (v[i] - mean);
    });
    square = block_sum<Threads / 32>(sum, shared) / static_cast<float>(a.columns);
  }
  const float inverse = rsqrtf(square + a.by.epsilon);
  each([&](uint32_t c, const float(&v)[width], const float(&w)[width]) {
    float y[width];
#pragma unroll
    for (int i = 0; i < width; ++i) {
      y[i] = (v[i] - mean) * inverse * w[i];
      if (a.by.bias != nullptr)
        y[i] += a.by.bias[c + i];
    }
    if constexpr (Wide && sizeof(Out) == 2) {
      *reinterpret_cast<uint2*>(out + c) = {pack<Out>(y[0], y[1]), pack<Out>(y[2], y[3])};
    } else {
#pragma unroll
      for (int i = 0; i < width; ++i)
        out[c + i] = narrow<Out>(y[i]);
    }
  });
}

template <class Out, int Threads, int Kept>
cudaError_t run(const launcher& on, const arguments& a, uint32_t rows, bool wide) {
  return wide ? launch(on, norm_kernel<Out, Threads, Kept, true>, rows, Threads, 0, a)
              : launch(on, norm_kernel<Out, Threads, Kept, false>, rows, Threads, 0, a);
}

} // namespace

cudaError_t normalize(const launcher& on, const norm& by, const matrix& in, const matrix* add,
                      const uint32_t* rows, const matrix& out) {
  if (in.type != element::fp32 || (add != nullptr && (rows != nullptr || add->type != in.type)) ||
      in.columns != out.columns)
    return cudaErrorInvalidValue;
  const arguments a{.by = by,
                    .in = static_cast<float*>(in.data),
                    .in_stride = in.stride,
                    .add = add != nullptr ? static_cast<const float*>(add->data) : nullptr,
                    .add_stride = add != nullptr ? add->stride : 0,
                    .rows = rows,
                    .out = out.data,
                    .out_stride = out.stride,
                    .columns = in.columns};
  // A norm that starts early lets the product behind it start early, too, while the one before
  // still streams: three kernels deep, 8B's steps at batch 1 took 6.9 ms instead of 5.7 (H100).
  // With an early start and a late release it was 5.9.
  launcher apart = on;
  apart.overlap = false;
  const bool wide = in.columns % 4 == 0 && is_wide(in) &&
                    reinterpret_cast<uintptr_t>(out.data) % 8 == 0 &&
                    out.stride * size_of(out.type) % 8 == 0;
  return with_element(out.type, [&](auto* e) {
    using Out = std::remove_pointer_t<decltype(e)>;
    if (in.columns <= 1024)
      return run<Out, 128, 8>(apart, a, out.rows, wide);
    // Few rows leave the device idle, so that a row's latency is what counts.
    if (out.rows <= 256)
      return run<Out, 512, 8>(apart, a, out.rows, wide);
    return run<Out, 256, 16>(apart, a, out.rows, wide);
  });
}

} // namespace troupe::models::cuda
