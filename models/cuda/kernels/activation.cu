#include <algorithm>

#include "troupe/models/cuda/kernels/device_code.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int threads = 256;

struct arguments {
  const void* in;
  size_t in_stride;
  const float* bias;
  void* out;
  size_t out_stride;
  uint32_t rows, columns;
  activation function;
  bool gated, accumulate;
};

template <class E>
__device__ void load(const E* from, float (&to)[8]) {
  load8(from, to);
}
template <class E>
__device__ void load(const E* from, float (&to)[1]) {
  to[0] = widen(*from);
}
template <class E>
__device__ void store(E* to, const float (&from)[8]) {
  store8(to, from);
}
template <class E>
__device__ void store(E* to, const float (&from)[1]) {
  *to = narrow<E>(from[0]);
}

/// A thread takes `Width` columns of a row at a time; rows in grid.y, pieces of a row in grid.x.
template <class In, class Out, int Width>
__global__ void __launch_bounds__(threads) activation_kernel(const arguments a) {
  release_next();
  wait_for_previous();
  const uint32_t column = (blockIdx.x * threads + threadIdx.x) * Width;
  if (column >= a.columns)
    return;
  for (uint32_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    const In* in = static_cast<const In*>(a.in) + row * a.in_stride + column;
    float x[Width], up[Width], bias[Width];
    load(in, x);
    if (a.bias != nullptr) {
      load(a.bias + column, bias);
#pragma unroll
      for (int i = 0; i < Width; ++i)
        x[i] += bias[i];
    }
#pragma unroll
    for (int i = 0; i < Width; ++i)
      x[i] = activated(a.function, x[i]);
    if (a.gated) {
      load(in + a.columns, up);
      if (a.bias != nullptr) {
        load(a.bias + a.columns + column, bias);
#pragma unroll
        for (int i = 0; i < Width; ++i)
          up[i] += bias[i];
      }
#pragma unroll
      for (int i = 0; i < Width; ++i)
        x[i] *= up[i];
    }
    store(static_cast<Out*>(a.out) + row * a.out_stride + column, x);
  }
}

template <class E, int Width>
__global__ void __launch_bounds__(threads) bias_kernel(const arguments a) {
  release_next();
  wait_for_previous();
  const uint32_t column = (blockIdx.x * threads + threadIdx.x) * Width;
  if (column >= a.columns)
    return;
  float bias[Width];
  load(a.bias + column, bias);
  for (uint32_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    E* out = static_cast<E*>(a.out) + row * a.out_stride + column;
    float y[Width];
#pragma unroll
    for (int i = 0; i < Width; ++i)
      y[i] = 0;
    if (a.accumulate)
      load(out, y);
#pragma unroll
    for (int i = 0; i < Width; ++i)
      y[i] += bias[i];
    store(out, y);
  }
}

bool wide_bias(const float* bias) {
  return reinterpret_cast<uintptr_t>(bias) % 16 == 0;
}

dim3 grid_of(const arguments& a, uint32_t width) {
  return {ceil_div(a.columns, threads * width), std::min(a.rows, 65535u)};
}

} // namespace

cudaError_t activate(const launcher& on, activation f, const matrix& in, const float* bias,
                     const matrix& out) {
  const bool gated = in.columns == 2 * out.columns;
  if ((!gated && in.columns != out.columns) || in.rows != out.rows ||
      (in.type != out.type && in.type != element::fp32))
    return cudaErrorInvalidValue;
  const arguments a{.in = in.data,
                    .in_stride = in.stride,
                    .bias = bias,
                    .out = out.data,
                    .out_stride = out.stride,
                    .rows = out.rows,
                    .columns = out.columns,
                    .function = f,
                    .gated = gated,
                    .accumulate = false};
  const bool wide = out.columns % 8 == 0 && is_wide(in) && is_wide(out) && wide_bias(bias);
  return with_element(out.type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    auto run = [&]<class In>(In*) {
      return wide ? launch(on, activation_kernel<In, E, 8>, grid_of(a, 8), threads, 0, a)
                  : launch(on, activation_kernel<In, E, 1>, grid_of(a, 1), threads, 0, a);
    };
    return in.type == element::fp32 ? run(static_cast<float*>(nullptr)) : run(e);
  });
}

cudaError_t add_bias(const launcher& on, const float* bias, bool accumulate, const matrix& out) {
  const arguments a{.in = nullptr,
                    .in_stride = 0,
                    .bias = bias,
                    .out = out.data,
                    .out_stride = out.stride,
                    .rows = out.rows,
                    .columns = out.columns,
                    .function = activation::none,
                    .gated = false,
                    .accumulate = accumulate};
  const bool wide = out.columns % 8 == 0 && is_wide(out) && wide_bias(bias);
  return with_element(out.type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    return wide ? launch(on, bias_kernel<E, 8>, grid_of(a, 8), threads, 0, a)
                : launch(on, bias_kernel<E, 1>, grid_of(a, 1), threads, 0, a);
  });
}

} // namespace troupe::models::cuda
