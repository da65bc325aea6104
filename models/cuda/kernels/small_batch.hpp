#pragma once

#include "troupe/models/cuda/kernels/gemm.hpp"

namespace troupe::models::cuda {

/// Tokens that one launch of `multiply_small` takes.
inline constexpr uint32_t small_batch_tokens = 16;
/// The same for a quantized weight, whose codes are not turned into numbers twice then.
inline constexpr uint32_t quantized_batch_tokens = 32;
constexpr uint32_t small_batch_tokens_of(const weight& by) {
  return by.kept_as == quantization::none ? small_batch_tokens : quantized_batch_tokens;
}
/// Shared memory that it needs; A100 and Hopper have it, smaller chips do not.
inline constexpr size_t small_batch_shared = 112 * 1024;
/// Whether `multiply_small` serves the call's types, sizes and alignment (T aside). A norm before
/// is not among what it does: every block would normalise x again, which took longer than the
/// separate kernel whose time the fetching of weights hides.
bool fits_small(const device_traits& device, const linear_call& call);

/// The product of at most small_batch_tokens_of(call.by) tokens with everything that the call asks
/// around it, in one launch. @pre fits_small(on.device, call)
///
/// Every block streams an equal share of the weight's rows exactly once, at memory speed; a warp
/// takes every eighth piece of 128 input features, and the warps' sums are added in order. A
/// token's bits depend neither on its neighbours nor on T.
/// @param row_scales Of a quantized weight's product: `call.x` is what `quantize_rows` gave.
cudaError_t multiply_small(const launcher& on, const linear_call& call,
                           const float* row_scales = nullptr);

/// Any type, shape and alignment, any T; slow. Takes no `before`.
cudaError_t multiply_any(const launcher& on, const linear_call& call);

} // namespace troupe::models::cuda
