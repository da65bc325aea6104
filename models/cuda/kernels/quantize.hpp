#pragma once

#include "troupe/models/cuda/kernels/gemm.hpp"

/// What products of quantized weights are made of (quantization.hpp, and `weight` in kernels.hpp).
/// Tensor cores multiply fp16, which holds int8's codes and fp4's values exactly; a row of
/// activations is brought into its range by a scale of its own. With fp32 as compute type all stays
/// fp32.
namespace troupe::models::cuda {

/// The type in which products of a quantized weight are computed.
constexpr element product_type(element compute) {
  return compute == element::fp32 ? element::fp32 : element::fp16;
}

/// Whether activations and weights are multiplied in an order of k other than memory's, which lets
/// pairs of codes become pairs of fp16 in few instructions: within eight k for fp4, four for int8.
constexpr bool is_reordered(const weight& by) {
  return by.type != element::fp32 && by.k % fp4_block == 0;
}

/// Quantizes rows of a model file's matrix as output features [first, first + rows) of `into`.
/// @param from [rows, into.k], or [into.k, rows] if `transposed`; device memory.
/// @param largest Scratch for fp4, fp32 [ceil(rows * into.k / 64)].
cudaError_t quantize_weight(const launcher& on, const void* from, element from_type,
                            bool transposed, uint32_t rows, uint32_t first, const weight& into,
                            float* largest);

/// Whether `quantize_rows` also does the norm that the call asks for.
bool can_normalize(const linear_call& call);

/// Brings the call's x into the form in which its weight multiplies it: sums * row_scales[t] are
/// what was meant. @param out [T, k] in the product type. @param row_scales fp32 [T]
/// @pre call.before is null or can_normalize(call)
cudaError_t quantize_rows(const launcher& on, const linear_call& call, const matrix& out,
                          float* row_scales);

/// Rows of a weight in the product type: int8's codes, fp4's weights.
/// @param out [rows, k] without gaps. Its first half are output features from `first` on, the
/// second those that they gate, if `gated`; otherwise all follow from `first` on.
cudaError_t dequantize_rows(const launcher& on, const weight& by, bool gated, uint32_t first,
                            const matrix& out);

/// What a call asks around its product, for the output features that `dequantize_rows` gave.
/// @param sums fp32 [T, rows of that]
cudaError_t finish_sums(const launcher& on, const linear_call& call, uint32_t first,
                        const matrix& sums, const float* row_scales);

} // namespace troupe::models::cuda
