#include "troupe/models/cpu/context.hpp"

#include <new>

#include "troupe/models/cpu/kernels/table.hpp"

namespace troupe::models::cpu {

namespace {

constexpr std::align_val_t cache_line{64};

#if defined(__x86_64__)
kernel_table with_bf16_pairs() {
  kernel_table table = avx512_kernels;
  table.level = isa::avx512_bf16;
  table.pairs_of_x = true;
  table.multiply_bf16 = multiply_bf16_pairs;
  table.pack_bf16 = pack_bf16_pairs;
  return table;
}
#endif

} // namespace

const kernel_table& kernels_of(isa level) {
#if defined(__x86_64__)
  static const kernel_table pairs = with_bf16_pairs();
  switch (level) {
  case isa::avx2:
    return avx2_kernels;
  case isa::avx512:
    return avx512_kernels;
  case isa::avx512_bf16:
    return pairs;
  default:
    break;
  }
#else
  (void)level;
#endif
  return plain_kernels;
}

void scratch_buffer::release::operator()(void* p) const noexcept {
  ::operator delete(p, cache_line);
}

void* scratch_buffer::reserve(size_t bytes) {
  if (bytes > capacity_) {
    data_.reset();
    capacity_ = 0;
    data_.reset(::operator new(bytes, cache_line));
    capacity_ = bytes;
  }
  return data_.get();
}

context::context(unsigned threads, isa level, bool pin)
    : level_(level), kernels_(&kernels_of(level)), pool_(threads, pin), own_(pool_.size()) {}

} // namespace troupe::models::cpu
