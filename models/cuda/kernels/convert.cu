#include <algorithm>

#include "troupe/models/cuda/kernels/device_code.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int threads = 256;
constexpr int square = 32;

/// A block per pair and piece of a block; grid.y pieces.
__global__ void __launch_bounds__(threads)
    copy_kernel(unsigned char* base, size_t stride, const block_pair* pairs) {
  release_next();
  wait_for_previous();
  const block_pair pair = pairs[blockIdx.x];
  const auto* from = reinterpret_cast<const uint4*>(base + pair.from * stride);
  auto* to = reinterpret_cast<uint4*>(base + pair.to * stride);
  const size_t count = stride / 16;
  for (size_t i = size_t{blockIdx.y} * threads + threadIdx.x; i < count;
       i += size_t{gridDim.y} * threads)
    to[i] = from[i];
}

template <class From, class To>
__global__ void __launch_bounds__(threads) convert_kernel(const From* from, To* to, size_t count) {
  release_next();
  wait_for_previous();
  const size_t step = size_t{gridDim.x} * threads;
  const size_t whole = count / 8 * 8;
  const size_t first = size_t{blockIdx.x} * threads + threadIdx.x;
  const bool wide = (reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) % 16 == 0;
  if (wide)
    for (size_t i = first * 8; i < whole; i += step * 8) {
      float v[8];
      load8(from + i, v);
      store8(to + i, v);
    }
  for (size_t i = (wide ? whole : 0) + first; i < count; i += step)
    to[i] = narrow<To>(widen(from[i]));
}

/// to[r][c] = from[c][r], in squares through shared memory.
template <class From, class To>
__global__ void __launch_bounds__(threads)
    transpose_kernel(const From* from, To* to, uint32_t rows, uint32_t columns) {
  __shared__ float part[square][square + 1];
  release_next();
  wait_for_previous();
  const uint32_t r0 = blockIdx.x * square, c0 = blockIdx.y * square;
  const uint32_t x = threadIdx.x % square;
  for (uint32_t y = threadIdx.x / square; y < square; y += threads / square)
    if (c0 + y < columns && r0 + x < rows)
      part[y][x] = widen(from[size_t{c0 + y} * rows + r0 + x]);
  __syncthreads();
  for (uint32_t y = threadIdx.x / square; y < square; y += threads / square)
    if (r0 + y < rows && c0 + x < columns)
      to[size_t{r0 + y} * columns + c0 + x] = narrow<To>(part[x][y]);
}

__device__ uint64_t mixed(uint64_t x) {
  // Source: Steele, Lea and Flood, SplitMix64.
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

template <class E>
__global__ void __launch_bounds__(threads)
    random_kernel(uint64_t seed, float spread, E* to, size_t count) {
  release_next();
  wait_for_previous();
  const uint64_t key = mixed(seed);
  for (size_t i = size_t{blockIdx.x} * threads + threadIdx.x; i < count;
       i += size_t{gridDim.x} * threads) {
    const auto bits = static_cast<uint32_t>(mixed(key + i) >> 40); // 24 bits
    to[i] = narrow<E>((static_cast<float>(bits) * 0x1p-23f - 1.0f) * spread);
  }
}

uint32_t blocks_for(const launcher& on, size_t pieces) {
  const size_t most = static_cast<size_t>(on.device.multiprocessors) * 16;
  return static_cast<uint32_t>(std::clamp<size_t>((pieces + threads - 1) / threads, 1, most));
}

} // namespace

cudaError_t copy_blocks(const launcher& on, void* base, size_t block_stride,
                        const block_pair* pairs, uint32_t count) {
  if (block_stride % 16 != 0)
    return cudaErrorInvalidValue;
  const auto pieces =
      static_cast<uint32_t>(std::clamp<size_t>(block_stride / (16 * threads * 4), 1, 64));
  return launch(on, copy_kernel, dim3{count, pieces}, threads, 0, static_cast<unsigned char*>(base),
                block_stride, pairs);
}

cudaError_t convert(const launcher& on, const void* from, element from_type, bool transposed,
                    uint32_t rows, uint32_t columns, void* to, element to_type) {
  const size_t count = size_t{rows} * columns;
  if (count == 0)
    return cudaSuccess;
  return with_element(from_type, [&](auto* f) {
    using From = std::remove_pointer_t<decltype(f)>;
    return with_element(to_type, [&](auto* t) {
      using To = std::remove_pointer_t<decltype(t)>;
      if (transposed)
        return launch(on, transpose_kernel<From, To>,
                      dim3{ceil_div(rows, square), ceil_div(columns, square)}, threads, 0,
                      static_cast<const From*>(from), static_cast<To*>(to), rows, columns);
      return launch(on, convert_kernel<From, To>, blocks_for(on, count / 8), threads, 0,
                    static_cast<const From*>(from), static_cast<To*>(to), count);
    });
  });
}

cudaError_t fill_random(const launcher& on, uint64_t seed, float spread, void* to, element type,
                        size_t count) {
  if (count == 0)
    return cudaSuccess;
  return with_element(type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    return launch(on, random_kernel<E>, blocks_for(on, count), threads, 0, seed, spread,
                  static_cast<E*>(to), count);
  });
}

} // namespace troupe::models::cuda
