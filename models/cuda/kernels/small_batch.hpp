#pragma once

#include "troupe/models/cuda/kernels/gemm.hpp"

namespace troupe::models::cuda {

/// Tokens that one launch of `multiply_small` takes.
inline constexpr uint32_t small_batch_tokens = 32;
/// Up to so many tokens the norm before a product is part of it.
inline constexpr uint32_t fused_norm_tokens = 8;

/// Whether `multiply_small` serves the call's types, sizes and alignment (T aside).
bool fits_small(const linear_call& call);

/// The product of at most small_batch_tokens tokens with everything that the call asks around it,
/// in one launch. With `before` at most fused_norm_tokens. @pre fits_small(call)
///
/// Every block streams an equal share of the weight's rows exactly once, at memory speed; a warp
/// takes every eighth piece of 128 input features, and the warps' sums are added in order. A
/// token's bits depend neither on its neighbours nor on T.
cudaError_t multiply_small(const launcher& on, const linear_call& call);

/// Any type, shape and alignment, any T; slow. Takes no `before`.
cudaError_t multiply_any(const launcher& on, const linear_call& call);

} // namespace troupe::models::cuda
