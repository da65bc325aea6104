#include "bench.hpp"

namespace troupe::bench {

namespace {

constexpr int threads = 512;
constexpr int unrolled = 8;

/// Reads everything; the sum keeps the compiler from leaving it out.
__global__ void __launch_bounds__(threads)
    read_kernel(const uint4* from, size_t count, uint32_t* to) {
  uint32_t sum = 0;
  const size_t step = size_t{gridDim.x} * threads;
  size_t i = size_t{blockIdx.x} * threads + threadIdx.x;
  for (; i + (unrolled - 1) * step < count; i += unrolled * step) {
    uint4 v[unrolled];
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      v[u] = __ldcs(from + i + u * step);
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
      sum += v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  for (; i < count; i += step)
    sum += from[i].x;
  if (sum == 0x12345678)
    *to = sum;
}

__global__ void __launch_bounds__(threads) copy_kernel(const uint4* from, size_t count, uint4* to) {
  const size_t step = size_t{gridDim.x} * threads;
  size_t i = size_t{blockIdx.x} * threads + threadIdx.x;
  for (; i + 3 * step < count; i += 4 * step) {
    uint4 v[4];
#pragma unroll
    for (int u = 0; u < 4; ++u)
      v[u] = __ldcs(from + i + u * step);
#pragma unroll
    for (int u = 0; u < 4; ++u)
      __stcs(to + i + u * step, v[u]);
  }
  for (; i < count; i += step)
    to[i] = from[i];
}

} // namespace

void enqueue_read(const place& p, const void* from, size_t bytes, void* sink) {
  read_kernel<<<p.on.device.multiprocessors * 4, threads, 0, p.on.stream>>>(
      static_cast<const uint4*>(from), bytes / 16, static_cast<uint32_t*>(sink));
  TROUPE_MUST(cudaGetLastError());
}

void enqueue_copy(const place& p, const void* from, size_t bytes, void* to) {
  copy_kernel<<<p.on.device.multiprocessors * 16, threads, 0, p.on.stream>>>(
      static_cast<const uint4*>(from), bytes / 16, static_cast<uint4*>(to));
  TROUPE_MUST(cudaGetLastError());
}

} // namespace troupe::bench
