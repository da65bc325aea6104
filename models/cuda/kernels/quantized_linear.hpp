#pragma once

#include "troupe/models/cuda/kernels/gemm.hpp"

namespace troupe::models::cuda {

/// As `linear_scratch_bytes`, for a quantized weight and without what `before` takes.
size_t quantized_scratch_bytes(const linear_call& call);

/// As `linear`, for a quantized weight. Few tokens are multiplied with the codes, many with slices
/// of the weight that are dequantized first. @pre there is scratch; call.before is null or
/// can_normalize(call)
cudaError_t quantized_linear(const launcher& on, const linear_call& call, gemm_library* library);

/// Rows [first, first + count) of a matrix.
inline matrix rows_of(const matrix& m, uint32_t first, uint32_t count) {
  matrix part = m;
  part.data = static_cast<unsigned char*>(m.data) + first * m.stride * size_of(m.type);
  part.rows = count;
  return part;
}

} // namespace troupe::models::cuda
