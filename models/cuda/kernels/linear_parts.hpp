#pragma once

#include "troupe/models/cuda/kernels/gemm.hpp"

/// What `linear` is made of in linear.cpp and quantized_linear.cpp.
namespace troupe::models::cuda {

/// Parts of a scratch begin at multiples of this.
inline constexpr size_t scratch_alignment = 256;

constexpr size_t padded(size_t bytes) {
  return (bytes + scratch_alignment - 1) / scratch_alignment * scratch_alignment;
}

/// `multiply_small` for any T, a launch for as many tokens as it takes. @pre fits_small
cudaError_t multiply_in_pieces(const launcher& on, const linear_call& call,
                               const float* row_scales = nullptr);

/// Bytes that `quantized_linear` needs, without what `before` takes.
size_t quantized_scratch_bytes(const linear_call& call);

/// As `linear`, for a quantized weight. Few tokens are multiplied with the codes, many with slices
/// of the weight that are dequantized first. @pre there is scratch; call.before is null or
/// can_normalize(call)
cudaError_t quantized_linear(const launcher& on, const linear_call& call, gemm_library* library);

} // namespace troupe::models::cuda
