#include <algorithm>

#include "troupe/models/cuda/kernels/attend_any.hpp"
#include "troupe/models/cuda/kernels/heads.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int warps =
    4; // Two blocks share a multiprocessor, and one computes while the other waits.
constexpr int threads = warps * 32;
constexpr int queries = warps * 16; // Of a block: tokens times the heads that share a kv head.
constexpr int tile = 64;            // Positions that a block takes at a time.

struct arguments {
  step_arrays step;
  const void* qkv;
  size_t stride;
  attention how;
  kv_pages pages;
  const query_tile* tiles;
  void* out;
  size_t out_stride;
};

/// A block for some tokens of a row and all query heads of one kv head, so that a key is fetched
/// once for all of them. Query i of the block is head i % heads of token i / heads.
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691).
template <class E, int D>
__global__ void __launch_bounds__(threads, 2) prefill_kernel(const arguments a) {
  constexpr int chunks = D / 8;            // 16-byte pieces of a head.
  constexpr int half_stage = tile * D * 2; // Bytes of keys, or of values.
  constexpr int joins = D / 32;
  constexpr int key_tiles = tile / 8;
  extern __shared__ __align__(128) unsigned char shared[];

  release_next();

  const query_tile part = a.tiles[blockIdx.x];
  if (part.row == no_row || part.first >= a.step.token_counts[part.row])
    return;
  const uint32_t kv_head = blockIdx.y, heads = a.how.heads / a.pages.kv_heads;
  const uint32_t tokens = min(queries / heads, a.step.token_counts[part.row] - part.first);
  const uint32_t first_token = a.step.first_tokens[part.row] + part.first;
  const uint32_t first_position = a.step.positions[first_token];
  const uint32_t length = first_position + tokens; // Positions that the last query sees.
  const uint32_t* table = a.step.block_tables + a.step.slots[part.row] * a.step.table_stride;
  const page_reader reader(a.pages, kv_head);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

  wait_for_previous();

  // This thread's two queries.
  uint32_t position[2], lowest[2];
  size_t place[2];
  bool real[2];
  uint4 q[2][joins];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t i = warp * 16 + r * 8 + g;
    real[r] = i < tokens * heads;
    const uint32_t token = real[r] ? i / heads : 0;
    position[r] = first_position + token;
    lowest[r] =
        a.how.window != 0 && position[r] + 1 > a.how.window ? position[r] + 1 - a.how.window : 0;
    place[r] = (kv_head * heads + i % heads) * D;
    const E* from = static_cast<const E*>(a.qkv) + (first_token + token) * a.stride + place[r];
    place[r] += (first_token + token) * a.out_stride;
#pragma unroll
    for (int j = 0; j < joins; ++j)
      q[r][j] =
          real[r] ? *reinterpret_cast<const uint4*>(from + (t + 4 * j) * 8) : uint4{0, 0, 0, 0};
  }

  const uint32_t hidden_before = a.how.window != 0 && first_position + 1 > a.how.window
                                     ? first_position + 1 - a.how.window
                                     : 0;
  const uint32_t start = hidden_before / tile * tile;
  const uint32_t ring = shared_address(shared);
  auto fetch = [&](uint32_t at, uint32_t stage) {
    if (at < length) {
#pragma unroll
      for (int i = 0; i < tile * chunks / threads; ++i) {
        const uint32_t r = (i * threads + threadIdx.x) / chunks, chunk = threadIdx.x % chunks;
        // Blocks before the window may be someone else's by now.
        const bool valid = at + r < length && at + r >= hidden_before;
        const E* key = reader.key<E>(table, valid ? at + r : length - 1, D) + chunk * 8;
        const uint32_t to = ring + stage * 2 * half_stage;
        copy16(to + (r * chunks + (chunk ^ ((r & 1) << 2))) * 16, key, valid);
        copy16(to + half_stage + (r * chunks + (chunk ^ (r & 7))) * 16,
               reinterpret_cast<const unsigned char*>(key) + reader.values_after, valid);
      }
    }
    commit_copies();
  };
  fetch(start, 0);

  const float scale = a.how.scale * 1.44269504088896341f;
  float top[2] = {-INFINITY, -INFINITY}, mass[2] = {0, 0};
  float sums[chunks][4];
#pragma unroll
  for (int n = 0; n < chunks; ++n)
    sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
  uint32_t stage = 0;
  for (uint32_t at = start; at < length; at += tile, stage ^= 1) {
    fetch(at + tile, stage ^ 1);
    wait_copies<1>();
    __syncthreads();
    const unsigned char* data = shared + stage * 2 * half_stage;
    float scores[key_tiles][4];
#pragma unroll
    for (int n = 0; n < key_tiles; ++n) {
      scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0;
      const auto* keys = reinterpret_cast<const uint4*>(data) + (n * 8 + g) * chunks;
#pragma unroll
      for (int j = 0; j < joins; ++j) {
        const uint4 k = keys[(t + 4 * j) ^ ((g & 1) << 2)];
        multiply_accumulate<E>(scores[n], q[0][j].x, q[1][j].x, q[0][j].y, q[1][j].y, k.x, k.y);
        multiply_accumulate<E>(scores[n], q[0][j].z, q[1][j].z, q[0][j].w, q[1][j].w, k.z, k.w);
      }
    }
    const bool partly = at + tile > first_position + 1 || a.how.window != 0;
    float keep[2], base[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float highest = top[r];
#pragma unroll
      for (int n = 0; n < key_tiles; ++n)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& s = scores[n][r * 2 + c];
          s *= scale;
          if (partly) {
            const uint32_t p = at + n * 8 + t * 2 + c;
            if (p > position[r] || p < lowest[r])
              s = -INFINITY;
          }
          highest = fmaxf(highest, s);
        }
      highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, 2));
      base[r] = highest == -INFINITY ? 0 : highest;
      keep[r] = exp2f(top[r] - base[r]);
      top[r] = highest;
      mass[r] *= keep[r];
    }
#pragma unroll
    for (int n = 0; n < chunks; ++n) {
      sums[n][0] *= keep[0];
      sums[n][1] *= keep[0];
      sums[n][2] *= keep[1];
      sums[n][3] *= keep[1];
    }
    const uint32_t values = ring + stage * 2 * half_stage + half_stage;
#pragma unroll
    for (int k = 0; k < tile / 16; ++k) {
      uint32_t weights[4];
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float x = exp2f(scores[2 * k + half][r * 2] - base[r]);
          const float y = exp2f(scores[2 * k + half][r * 2 + 1] - base[r]);
          mass[r] += x + y;
          weights[half * 2 + r] = pack<E>(x, y);
        }
#pragma unroll
      for (int n = 0; n < chunks; n += 2) {
        const uint32_t r = k * 16 + lane % 16, chunk = n + lane / 16;
        uint32_t v[4];
        load_transposed(v, values + (r * chunks + (chunk ^ (r & 7))) * 16);
        multiply_accumulate<E>(sums[n], weights[0], weights[1], weights[2], weights[3], v[0], v[1]);
        multiply_accumulate<E>(sums[n + 1], weights[0], weights[1], weights[2], weights[3], v[2],
                               v[3]);
      }
    }
    __syncthreads(); // The stage is read; the next round fills it.
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    mass[r] += __shfl_xor_sync(all_lanes, mass[r], 1);
    mass[r] += __shfl_xor_sync(all_lanes, mass[r], 2);
    if (!real[r])
      continue;
    const float inverse = 1.0f / mass[r];
    E* out = static_cast<E*>(a.out) + place[r];
#pragma unroll
    for (int n = 0; n < chunks; ++n)
      *reinterpret_cast<uint32_t*>(out + n * 8 + t * 2) =
          pack<E>(sums[n][r * 2] * inverse, sums[n][r * 2 + 1] * inverse);
  }
}

bool is_fast(const attention& how, const kv_pages& pages) {
  return pages.type != element::fp32 && (pages.head_size == 64 || pages.head_size == 128) &&
         how.heads / pages.kv_heads <= 32 && reinterpret_cast<uintptr_t>(pages.base) % 16 == 0 &&
         pages.block_stride % 16 == 0;
}

template <class E, int D>
cudaError_t run(const launcher& on, const arguments& a, uint32_t tiles) {
  constexpr size_t shared = size_t{2} * 2 * tile * D * 2;
  return launch(on, prefill_kernel<E, D>, dim3{tiles, a.pages.kv_heads}, threads, shared, a);
}

} // namespace

uint32_t prefill_tile_tokens(const attention& how, const kv_pages& pages) {
  return is_fast(how, pages) ? queries / (how.heads / pages.kv_heads) : any_tile_tokens;
}

cudaError_t attend_prefill(const launcher& on, const step_arrays& step, const matrix& qkv,
                           const attention& how, const kv_pages& pages, const query_tile* tiles,
                           uint32_t tile_count, const matrix& out) {
  if (pages.kv_heads == 0 || how.heads % pages.kv_heads != 0 || pages.head_size > 256 ||
      pages.head_size == 0 || qkv.type != pages.type || out.type != pages.type)
    return cudaErrorInvalidValue;
  if (!is_fast(how, pages))
    return attend_any(on, step, qkv, how, pages, tiles, tile_count, out);
  // Pages are fast by their own layout; rows of q must then be, too.
  if (!is_wide(qkv) || out.stride % 2 != 0)
    return cudaErrorInvalidValue;
  const arguments a{.step = step,
                    .qkv = qkv.data,
                    .stride = qkv.stride,
                    .how = how,
                    .pages = pages,
                    .tiles = tiles,
                    .out = out.data,
                    .out_stride = out.stride};
  const bool wide = pages.head_size == 128;
  if (pages.type == element::bf16)
    return wide ? run<bf16, 128>(on, a, tile_count) : run<bf16, 64>(on, a, tile_count);
  return wide ? run<fp16, 128>(on, a, tile_count) : run<fp16, 64>(on, a, tile_count);
}

} // namespace troupe::models::cuda
