#include <algorithm>

#include "troupe/models/cuda/kernels/linear_parts.hpp"
#include "troupe/models/cuda/kernels/quantize.hpp"
#include "troupe/models/cuda/kernels/small_batch.hpp"

namespace troupe::models::cuda {

namespace {

size_t normed_bytes(const linear_call& call) {
  return call.before != nullptr ? padded(size_t{call.x.rows} * call.by.k * size_of(call.by.type))
                                : 0;
}

bool is_activated(const linear_call& call) {
  return call.gated || call.function != activation::none;
}

matrix rows_of(const matrix& m, uint32_t first, uint32_t count) {
  matrix part = m;
  part.data = static_cast<unsigned char*>(m.data) + first * m.stride * size_of(m.type);
  part.rows = count;
  return part;
}

cudaError_t multiply_with(gemm_library& library, const launcher& on, const linear_call& call,
                          void* scratch) {
  if (is_activated(call)) {
    const matrix wide{scratch, call.by.type, call.x.rows, call.by.n, call.by.n};
    if (const auto e = library.multiply(on, call.x, call.by, false, wide); e != cudaSuccess)
      return e;
    return activate(on, call.function, wide, call.by.bias, call.y);
  }
  bool accumulate = call.accumulate;
  if (call.by.bias != nullptr) {
    // The bias comes first, so that the sum is rounded once.
    if (const auto e = add_bias(on, call.by.bias, accumulate, call.y); e != cudaSuccess)
      return e;
    accumulate = true;
  }
  return library.multiply(on, call.x, call.by, accumulate, call.y);
}

} // namespace

cudaError_t multiply_in_pieces(const launcher& on, const linear_call& call,
                               const float* row_scales) {
  const uint32_t step = small_batch_tokens_of(call.by);
  for (uint32_t first = 0; first < call.x.rows; first += step) {
    const uint32_t count = std::min(step, call.x.rows - first);
    linear_call part = call;
    part.x = rows_of(call.x, first, count);
    part.y = rows_of(call.y, first, count);
    const float* scales = row_scales != nullptr ? row_scales + first : nullptr;
    if (const auto e = multiply_small(on, part, scales); e != cudaSuccess)
      return e;
  }
  return cudaSuccess;
}

size_t linear_scratch_bytes(const linear_call& call) {
  if (call.by.kept_as != quantization::none)
    return normed_bytes(call) + quantized_scratch_bytes(call);
  return normed_bytes(call) +
         (is_activated(call) ? padded(size_t{call.x.rows} * call.by.n * size_of(call.by.type)) : 0);
}

uint32_t small_batch_limit(const device_traits&, element type, uint32_t n, uint32_t k) {
  if (type == element::fp32)
    return 0;
  // Measured on an H200: from about 60 MB on, cuBLASLt's tiles cost nothing beyond the weights.
  return size_t{n} * k * size_of(type) > (size_t{60} << 20) ? 8 : 16;
}

cudaError_t linear(const launcher& on, const linear_call& call, gemm_library* library) {
  if (call.x.rows == 0)
    return cudaSuccess;
  if (call.x.columns != call.by.k || call.y.columns != (call.gated ? call.by.n / 2 : call.by.n) ||
      call.x.rows != call.y.rows || (call.accumulate && is_activated(call)) ||
      (call.accumulate && call.y.type != element::fp32))
    return cudaErrorInvalidValue;
  linear_call rest = call;
  auto* scratch = static_cast<unsigned char*>(call.scratch);
  const bool quantized = call.by.kept_as != quantization::none;
  if (call.before != nullptr && !(quantized && can_normalize(call))) {
    if (scratch == nullptr)
      return cudaErrorInvalidValue;
    const matrix normed{scratch, call.by.type, call.x.rows, call.by.k, call.by.k};
    if (const auto e = normalize(on, *call.before, call.x, nullptr, nullptr, normed);
        e != cudaSuccess)
      return e;
    rest.x = normed;
    rest.before = nullptr;
    scratch += normed_bytes(call);
  }
  if (quantized) {
    rest.scratch = scratch;
    return quantized_linear(on, rest, library);
  }
  if (fits_small(on.device, rest) &&
      rest.x.rows <= small_batch_limit(on.device, rest.by.type, rest.by.n, rest.by.k))
    return multiply_small(on, rest);
  // Without the library our own kernels take all.
  if (library == nullptr || (is_activated(rest) && scratch == nullptr))
    return fits_small(on.device, rest) ? multiply_in_pieces(on, rest) : multiply_any(on, rest);
  return multiply_with(*library, on, rest, scratch);
}

} // namespace troupe::models::cuda
