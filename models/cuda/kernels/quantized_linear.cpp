#include <algorithm>

#include "troupe/models/cuda/kernels/linear_parts.hpp"
#include "troupe/models/cuda/kernels/quantize.hpp"
#include "troupe/models/cuda/kernels/small_batch.hpp"

namespace troupe::models::cuda {

namespace {

/// Of dequantized weights at a time: they stay in the second level cache until they are multiplied.
constexpr size_t slice_bytes = 32 << 20;
/// Up to here reading the codes once for each quantized_batch_tokens takes less time than writing
/// and reading weights.
constexpr uint32_t most_small_tokens = 64;

/// Output features that are dequantized at once, gates not counted.
uint32_t slice_outputs(const linear_call& call) {
  const uint32_t outputs = call.gated ? call.by.n / 2 : call.by.n;
  const size_t each =
      size_t{call.by.k} * size_of(product_type(call.by.type)) * (call.gated ? 2 : 1);
  const auto fitting = static_cast<uint32_t>(slice_bytes / each / 64 * 64);
  return std::min(std::max(fitting, 64u), outputs);
}

/// Where what lies in the scratch.
struct places {
  size_t row_scales = 0, weights = 0, sums = 0, end = 0;

  explicit places(const linear_call& call) {
    const size_t rows = call.x.rows;
    const auto type = product_type(call.by.type);
    row_scales = padded(rows * call.by.k * size_of(type));
    weights = row_scales + padded(rows * sizeof(float));
    const size_t slice = size_t{slice_outputs(call)} * (call.gated ? 2 : 1);
    sums = weights + padded(slice * call.by.k * size_of(type));
    end = sums + padded(rows * slice * sizeof(float));
  }
};

cudaError_t multiply_in_slices(const launcher& on, const linear_call& call, gemm_library* library,
                               const places& at, unsigned char* scratch, const float* row_scales) {
  const auto type = product_type(call.by.type);
  const uint32_t outputs = call.gated ? call.by.n / 2 : call.by.n;
  const uint32_t step = slice_outputs(call);
  for (uint32_t first = 0; first < outputs; first += step) {
    const uint32_t rows = std::min(step, outputs - first) * (call.gated ? 2 : 1);
    const matrix weights{scratch + at.weights, type, rows, call.by.k, call.by.k};
    if (const auto e = dequantize_rows(on, call.by, call.gated, first, weights); e != cudaSuccess)
      return e;
    const weight slice{weights.data, type, rows, call.by.k};
    const matrix sums{scratch + at.sums, element::fp32, call.x.rows, rows, rows};
    linear_call plain;
    plain.x = call.x;
    plain.by = slice;
    plain.y = sums;
    const auto e = library != nullptr ? library->multiply(on, call.x, slice, false, sums)
                                      : multiply_any(on, plain);
    if (e != cudaSuccess)
      return e;
    if (const auto error = finish_sums(on, call, first, sums, row_scales); error != cudaSuccess)
      return error;
  }
  return cudaSuccess;
}

} // namespace

size_t quantized_scratch_bytes(const linear_call& call) {
  return places{call}.end;
}

cudaError_t quantized_linear(const launcher& on, const linear_call& call, gemm_library* library) {
  if (call.scratch == nullptr)
    return cudaErrorInvalidValue;
  auto* scratch = static_cast<unsigned char*>(call.scratch);
  const places at{call};
  auto* row_scales = reinterpret_cast<float*>(scratch + at.row_scales);
  linear_call taken = call;
  taken.x = {scratch, product_type(call.by.type), call.x.rows, call.by.k, call.by.k};
  taken.before = nullptr;
  if (const auto e = quantize_rows(on, call, taken.x, row_scales); e != cudaSuccess)
    return e;
  // Without the library only the small kernel is fast, whose bits do not depend on the batch.
  if (!fits_small(on.device, taken) || (library != nullptr && call.x.rows > most_small_tokens))
    return multiply_in_slices(on, taken, library, at, scratch, row_scales);
  return multiply_in_pieces(on, taken, row_scales);
}

} // namespace troupe::models::cuda
