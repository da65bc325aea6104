#include "troupe/models/cuda/kernels/attend_any.hpp"

#include "troupe/models/cuda/kernels/heads.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int threads = 128;
constexpr int most_size = 256;

template <class E>
__global__ void __launch_bounds__(threads)
    any_kernel(const step_arrays step, const E* qkv, size_t stride, const attention how,
               const kv_pages pages, const query_tile* tiles, E* out, size_t out_stride) {
  __shared__ float query[most_size], weights[threads], shared[threads / 32];
  release_next();
  wait_for_previous();
  uint32_t row = blockIdx.x, index = 0;
  if (tiles != nullptr) {
    row = tiles[blockIdx.x].row;
    index = tiles[blockIdx.x].first + blockIdx.z;
    if (row == no_row || index >= step.token_counts[row])
      return;
  } else if (step.token_counts[row] != 1) {
    return;
  }
  const uint32_t head = blockIdx.y, size = pages.head_size;
  const uint32_t token = step.first_tokens[row] + index;
  const uint32_t length = step.positions[token] + 1;
  const uint32_t* table = step.block_tables + step.slots[row] * step.table_stride;
  const page_reader reader(pages, head / (how.heads / pages.kv_heads));
  for (uint32_t d = threadIdx.x; d < size; d += threads)
    query[d] = widen(qkv[token * stride + head * size + d]) * how.scale;
  __syncthreads();

  const uint32_t start = how.window != 0 && length > how.window ? length - how.window : 0;
  float top = -INFINITY, mass = 0, sums[most_size / threads] = {};
  for (uint32_t first = start; first < length; first += threads) {
    const uint32_t p = first + threadIdx.x;
    float score = -INFINITY;
    if (p < length) {
      const E* key = reader.key<E>(table, p, size);
      score = 0;
      for (uint32_t d = 0; d < size; ++d)
        score += query[d] * widen(key[d]);
    }
    const float highest = fmaxf(top, block_max<threads / 32>(score, shared));
    const float keep = expf(top - highest), weight = expf(score - highest);
    top = highest;
    weights[threadIdx.x] = weight;
    mass = mass * keep + block_sum<threads / 32>(weight, shared);
    const uint32_t count = min(static_cast<uint32_t>(threads), length - first);
#pragma unroll
    for (int n = 0; n < most_size / threads; ++n)
      sums[n] *= keep;
    for (uint32_t i = 0; i < count; ++i) {
      const E* value = reader.key<E>(table, first + i, size) + reader.values_after / sizeof(E);
#pragma unroll
      for (int n = 0; n < most_size / threads; ++n)
        if (const uint32_t d = threadIdx.x + n * threads; d < size)
          sums[n] += weights[i] * widen(value[d]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int n = 0; n < most_size / threads; ++n)
    if (const uint32_t d = threadIdx.x + n * threads; d < size)
      out[token * out_stride + head * size + d] = narrow<E>(sums[n] / mass);
}

} // namespace

cudaError_t attend_any(const launcher& on, const step_arrays& step, const matrix& qkv,
                       const attention& how, const kv_pages& pages, const query_tile* tiles,
                       uint32_t count, const matrix& out) {
  const dim3 grid{count, how.heads, tiles != nullptr ? any_tile_tokens : 1};
  return with_element(pages.type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    return launch(on, any_kernel<E>, grid, threads, 0, step, static_cast<const E*>(qkv.data),
                  qkv.stride, how, pages, tiles, static_cast<E*>(out.data), out.stride);
  });
}

} // namespace troupe::models::cuda
