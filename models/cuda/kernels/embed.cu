#include <algorithm>

#include "troupe/models/cuda/kernels/device_code.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int threads = 128;

__device__ void add8(element type, const void* base, size_t at, float (&to)[8]) {
  float v[8];
  switch (type) {
  case element::fp32:
    load8(static_cast<const float*>(base) + at, v);
    break;
  case element::bf16:
    load8(static_cast<const bf16*>(base) + at, v);
    break;
  case element::fp16:
    load8(static_cast<const fp16*>(base) + at, v);
    break;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    to[i] += v[i];
}

__device__ float at(element type, const void* base, size_t index) {
  switch (type) {
  case element::fp32:
    return static_cast<const float*>(base)[index];
  case element::bf16:
    return widen(static_cast<const bf16*>(base)[index]);
  case element::fp16:
    return widen(static_cast<const fp16*>(base)[index]);
  }
  return 0;
}

/// Tokens in grid.x, pieces of a row in grid.y.
template <int Width>
__global__ void __launch_bounds__(threads) embed_kernel(const step_arrays step, const matrix table,
                                                        const matrix learned, const matrix out) {
  release_next();
  wait_for_previous();
  const uint32_t token = blockIdx.x;
  const uint32_t column = (blockIdx.y * threads + threadIdx.x) * Width;
  if (column >= out.columns)
    return;
  float* to = static_cast<float*>(out.data) + token * out.stride + column;
  const uint32_t row = step.token_rows[token];
  float v[8] = {};
  if (row != no_row) {
    int32_t id = step.tokens[token];
    if (id < 0)
      id = step.latest[step.slots[row]];
    const size_t place = min(static_cast<uint32_t>(id), table.rows - 1) * table.stride + column;
    size_t learned_place = 0;
    if (learned.data != nullptr)
      learned_place = min(step.positions[token], learned.rows - 1) * learned.stride + column;
    if constexpr (Width == 8) {
      add8(table.type, table.data, place, v);
      if (learned.data != nullptr)
        add8(learned.type, learned.data, learned_place, v);
    } else {
      v[0] = at(table.type, table.data, place);
      if (learned.data != nullptr)
        v[0] += at(learned.type, learned.data, learned_place);
    }
  }
  if constexpr (Width == 8)
    store8(to, v);
  else
    *to = v[0];
}

} // namespace

cudaError_t embed(const launcher& on, const step_arrays& step, const matrix& table,
                  const matrix* learned, const matrix& out) {
  if (out.type != element::fp32 || table.rows == 0 || table.columns != out.columns)
    return cudaErrorInvalidValue;
  const bool wide = out.columns % 8 == 0 && is_wide(table) && is_wide(out) &&
                    (learned == nullptr || is_wide(*learned));
  const uint32_t width = wide ? 8 : 1;
  const dim3 grid{step.count, ceil_div(out.columns, threads * width)};
  const matrix positions = learned != nullptr ? *learned : matrix{};
  // Whatever a later kernel of the step fetches ahead is complete when this one starts.
  launcher apart = on;
  apart.overlap = false;
  return wide ? launch(apart, embed_kernel<8>, grid, threads, 0, step, table, positions, out)
              : launch(apart, embed_kernel<1>, grid, threads, 0, step, table, positions, out);
}

} // namespace troupe::models::cuda
