#include "troupe/models/cuda/kernels/heads.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int warps = 8;

/// A warp per head of a token, of any type and size: q in place, k and v into the pages.
template <class E>
__global__ void __launch_bounds__(warps * 32)
    rotary_kernel(const step_arrays step, E* qkv, size_t stride, const head_arguments how,
                  const kv_pages pages) {
  release_next();
  const uint32_t token = blockIdx.x;
  const uint32_t head = blockIdx.y * warps + threadIdx.x / 32;
  const uint32_t row = step.token_rows[token];
  if (row == no_row || head >= how.heads + 2 * how.kv_heads)
    return;
  const uint32_t slot = step.slots[row], position = step.positions[token], size = how.head_size;
  E* from = qkv + token * stride + static_cast<size_t>(head) * size;
  const page_reader reader(pages, (head - how.heads) % how.kv_heads);
  E* to =
      const_cast<E*>(reader.key<E>(step.block_tables + slot * step.table_stride, position, size));
  wait_for_previous();
  if (head < how.heads) {
    how.work(false, position, slot).run(from, from, size);
    return;
  }
  const bool key = head < how.heads + how.kv_heads;
  if (key) {
    how.work(true, position, slot).run(from, to, size);
    return;
  }
  to = reinterpret_cast<E*>(reinterpret_cast<unsigned char*>(to) + reader.values_after);
  head_work{}.run(from, to, size);
}

/// The same for heads that head_angles knows; a warp takes a token's heads gridDim.y * warps apart,
/// so that long prompts compute each angle once.
template <class E, int D>
__global__ void __launch_bounds__(warps * 32)
    fast_kernel(const step_arrays step, E* qkv, size_t stride, const head_arguments how,
                const kv_pages pages) {
  release_next();
  const uint32_t token = blockIdx.x, row = step.token_rows[token];
  if (row == no_row)
    return;
  const uint32_t slot = step.slots[row], position = step.positions[token];
  const uint32_t* table = step.block_tables + slot * step.table_stride;
  const head_work query_work = how.work(false, position, slot);
  const head_work key_work = how.work(true, position, slot);
  const page_reader reader(pages, 0);
  E* page = const_cast<E*>(reader.key<E>(table, position, D));
  head_angles<D> angles;
  angles.compute(query_work);
  wait_for_previous();
  for (uint32_t head = blockIdx.y * warps + threadIdx.x / 32; head < how.heads + 2 * how.kv_heads;
       head += gridDim.y * warps) {
    E* from = qkv + token * stride + static_cast<size_t>(head) * D;
    if (head < how.heads) {
      angles.run(query_work, from, from);
      continue;
    }
    const uint32_t kv_head = (head - how.heads) % how.kv_heads;
    E* to = page + kv_head * (reader.head_bytes / sizeof(E));
    if (head < how.heads + how.kv_heads)
      angles.run(key_work, from, to);
    else
      copy_head<D>(from, to + reader.values_after / sizeof(E));
  }
}

template <class E, int D>
cudaError_t run_fast(const launcher& on, const step_arrays& step, const matrix& qkv,
                     const head_arguments& how, const kv_pages& pages) {
  const uint32_t all = ceil_div(how.heads + 2 * how.kv_heads, warps);
  const dim3 grid{step.count, step.count < 512 ? all : 1};
  return launch(on, fast_kernel<E, D>, grid, warps * 32, 0, step, static_cast<E*>(qkv.data),
                qkv.stride, how, pages);
}

} // namespace

cudaError_t rotate_and_store(const launcher& on, const step_arrays& step, const matrix& qkv,
                             uint32_t heads, const norm* q_norm, const norm* k_norm,
                             const rotation& by, const kv_pages& pages) {
  if (qkv.type != pages.type || pages.head_size > 256 || pages.head_size == 0 ||
      (by.frequencies != nullptr && pages.head_size % 2 != 0))
    return cudaErrorInvalidValue;
  const auto how = head_arguments_of(q_norm, k_norm, by, heads, pages);
  const bool fast = (pages.head_size == 64 || pages.head_size == 128) && is_wide(qkv) &&
                    reinterpret_cast<uintptr_t>(pages.base) % 16 == 0 &&
                    pages.block_stride % 16 == 0;
  if (fast && qkv.type == element::bf16)
    return pages.head_size == 64 ? run_fast<bf16, 64>(on, step, qkv, how, pages)
                                 : run_fast<bf16, 128>(on, step, qkv, how, pages);
  if (fast && qkv.type == element::fp16)
    return pages.head_size == 64 ? run_fast<fp16, 64>(on, step, qkv, how, pages)
                                 : run_fast<fp16, 128>(on, step, qkv, how, pages);
  const dim3 grid{step.count, ceil_div(heads + 2 * pages.kv_heads, warps)};
  return with_element(qkv.type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    return launch(on, rotary_kernel<E>, grid, warps * 32, 0, step, static_cast<E*>(qkv.data),
                  qkv.stride, how, pages);
  });
}

} // namespace troupe::models::cuda
