#include "troupe/models/cpu/kernels/vector_avx512.hpp"

#include "troupe/models/cpu/kernels/attention_impl.hpp"
#include "troupe/models/cpu/kernels/elementwise_impl.hpp"
#include "troupe/models/cpu/kernels/pack_avx512.hpp"
#include "troupe/models/cpu/kernels/product_impl.hpp"
#include "troupe/models/cpu/kernels/quantize_impl.hpp"

namespace troupe::models::cpu {

namespace {

void pack_rows(const float* x, size_t stride, size_t rows, size_t k, float* out) {
  pack_transposed(rows, k, out, [x, stride](size_t row, size_t step, size_t count) {
    const float* from = x + row * stride + step;
    return count == 16 ? simd::load(from) : simd::load_some(from, count);
  });
}

} // namespace

const kernel_table avx512_kernels{
    .level = isa::avx512,
    .tile_rows = simd::tile_rows,
    .pairs_of_x = false,
    .multiply_fp32 = multiply_fp32,
    .multiply_bf16 = multiply_bf16,
    .multiply_int8 = multiply_int8,
    .multiply_fp4 = multiply_fp4,
    .quantize_row = quantize_row,
    .finish = finish_tile,
    .pack_fp32 = pack_rows,
    .pack_bf16 = nullptr,
    .attend = attend,
    .rms_norm = rms_norm_row,
    .layer_norm = layer_norm_row,
    .add = add_rows,
    .silu = silu_row,
    .gelu_tanh = gelu_tanh_row,
    .narrow = narrow_row,
    .rotate = rotate_heads,
};

} // namespace troupe::models::cpu
