#include <algorithm>

#include "troupe/models/cuda/kernels/attend_any.hpp"
#include "troupe/models/cuda/kernels/heads.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int warps = 4;
constexpr int tile = 16;  // Positions that a warp takes at a time.
constexpr int stages = 3; // Tiles of a warp under way.
constexpr int group = 8;  // Query heads of a block: they share a kv head.
constexpr int most_parts = 128;
constexpr uint32_t least_part = 128;
constexpr uint32_t undivided = 256; // Joining parts costs as much as some tiles.

struct arguments {
  step_arrays step;
  void* qkv;
  size_t stride;
  head_arguments heads;
  kv_pages pages;
  void* out;
  size_t out_stride;
  float scale;
  uint32_t window;
  decode_split split;
  uint32_t* counters; ///< [R, head groups]
  float* partial;     ///< [R, H, parts, D] sums of values, then [R, H, parts, 2] maximum and mass.
};

/// The positions [first, last) that a part of a row looks at.
struct part_range {
  uint32_t first, last, used; ///< used: parts that have any.

  __device__ part_range(uint32_t length, uint32_t window, decode_split split, uint32_t part) {
    const uint32_t start = window != 0 && length > window ? (length - window) / tile * tile : 0;
    if (split.part_tokens != 0) {
      // The same cuts whatever the window hides, so that they depend on positions alone.
      first = max(part * split.part_tokens, start);
      last = min((part + 1) * split.part_tokens, length);
      used = (length + split.part_tokens - 1) / split.part_tokens;
      return;
    }
    const uint32_t even = (length - start + split.parts - 1) / split.parts;
    const uint32_t each =
        length - start <= undivided ? undivided : (even + least_part - 1) / least_part * least_part;
    used = (length - start + each - 1) / each;
    first = start + part * each;
    last = min(first + each, length);
  }
};

/// Adds up the parts of some heads in their order. Runs in the block that finished last.
/// @param shares [group, most_parts] in shared memory.
template <class E, int D>
__device__ void combine(const arguments& a, uint32_t row, uint32_t token, uint32_t first_head,
                        uint32_t heads, uint32_t used, float* shares) {
  const uint32_t parts = a.split.parts, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float* marks = a.partial + size_t{a.step.rows} * a.heads.heads * parts * D;
  for (uint32_t h = warp; h < heads; h += warps) {
    const float* mark = marks + (size_t{row} * a.heads.heads + first_head + h) * parts * 2;
    float tops[most_parts / 32], masses[most_parts / 32], top = -INFINITY, mass = 0;
#pragma unroll
    for (int i = 0; i < most_parts / 32; ++i) {
      const uint32_t p = i * 32 + lane;
      tops[i] = p < used ? __ldcg(mark + p * 2) : -INFINITY;
      masses[i] = p < used ? __ldcg(mark + p * 2 + 1) : 0.0f;
      top = fmaxf(top, tops[i]);
    }
    top = warp_max(top);
#pragma unroll
    for (int i = 0; i < most_parts / 32; ++i) {
      tops[i] = tops[i] == -INFINITY ? 0.0f : exp2f(tops[i] - top);
      mass += tops[i] * masses[i];
    }
    mass = warp_sum(mass);
#pragma unroll
    for (int i = 0; i < most_parts / 32; ++i)
      shares[h * most_parts + i * 32 + lane] = tops[i] / mass;
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x * 2; i < heads * D; i += warps * 32 * 2) {
    const uint32_t h = i / D, d = i % D;
    const float* from = a.partial + (size_t{row} * a.heads.heads + first_head + h) * parts * D + d;
    float2 sum = {0, 0};
#pragma unroll 8
    for (uint32_t p = 0; p < used; ++p) {
      const float share = shares[h * most_parts + p];
      const float2 v = __ldcg(reinterpret_cast<const float2*>(from + size_t{p} * D));
      sum.x += share * v.x;
      sum.y += share * v.y;
    }
    *reinterpret_cast<uint32_t*>(static_cast<E*>(a.out) + token * a.out_stride +
                                 (first_head + h) * D + d) = pack<E>(sum.x, sum.y);
  }
}

/// A block per part of a row and kv head (and eight of its query heads); warps take tiles in turn.
template <class E, int D, bool Fused>
__global__ void __launch_bounds__(warps * 32, 2) decode_kernel(const arguments a) {
  constexpr int chunks = D / 8;            // 16-byte pieces of a head.
  constexpr int half_stage = tile * D * 2; // Bytes of keys, or of values.
  constexpr int joins = D / 32;            // Pieces of q and k that a thread holds.
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ __align__(16) E queries[group][D], newest_key[D], newest_value[D];
  __shared__ float tops[warps][group], masses[warps][group];
  __shared__ bool last_one;

  release_next();
  // What the step is about, and keys and values of earlier steps, are there already: see
  // `launcher`.
  const uint32_t row = blockIdx.z, part = blockIdx.x;
  const uint32_t tokens = a.step.token_counts[row], token = a.step.first_tokens[row],
                 slot = a.step.slots[row];
  if (tokens != 1)
    return;
  const uint32_t per_kv = a.heads.heads / a.heads.kv_heads;
  const uint32_t groups = (per_kv + group - 1) / group;
  const uint32_t kv_head = blockIdx.y / groups, inner = blockIdx.y % groups * group;
  const uint32_t first_head = kv_head * per_kv + inner;
  const uint32_t heads = min(static_cast<uint32_t>(group), per_kv - inner);
  const uint32_t position = a.step.positions[token], length = position + 1;
  const part_range range(length, a.window, a.split, part);
  if (part >= range.used)
    return;
  const uint32_t* table = a.step.block_tables + slot * a.step.table_stride;
  const page_reader reader(a.pages, kv_head);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const bool newest = range.last == length && range.first < range.last;

  // The newest key and value come another way than the others.
  const uint32_t lowest = a.window != 0 && length > a.window ? length - a.window : 0;
  const uint32_t ring = shared_address(shared) + warp * stages * 2 * half_stage;
  uint32_t ahead = range.first + warp * tile, fill = 0;
  auto fetch = [&] {
    if (ahead < range.last) {
#pragma unroll
      for (int i = 0; i < tile * chunks / 32; ++i) {
        const uint32_t r = (i * 32 + lane) / chunks, chunk = lane % chunks;
        // Blocks before the window may be someone else's by now.
        const bool valid = ahead + r < position && ahead + r >= lowest;
        const E* key = reader.key<E>(table, valid ? ahead + r : position, D) + chunk * 8;
        const uint32_t to = ring + fill * 2 * half_stage;
        copy16(to + (r * chunks + (chunk ^ ((r & 1) << 2))) * 16, key, valid);
        copy16(to + half_stage + (r * chunks + (chunk ^ (r & 7))) * 16,
               reinterpret_cast<const unsigned char*>(key) + reader.values_after, valid);
      }
      ahead += tile * warps;
    }
    commit_copies();
    fill = fill + 1 == stages ? 0 : fill + 1;
  };
#pragma unroll
  for (int s = 0; s < stages - 1; ++s)
    fetch();

  const head_work query_work = a.heads.work(false, position, slot);
  const head_work key_work = a.heads.work(true, position, slot);
  head_angles<D> angles;
  if constexpr (Fused)
    angles.compute(query_work);

  wait_for_previous();

  const E* vector = static_cast<const E*>(a.qkv) + token * a.stride;
  E* page = const_cast<E*>(reader.key<E>(table, position, D));
  const E* key_from = Fused ? vector + (a.heads.heads + kv_head) * D : page;
  const E* value_from = Fused ? vector + (a.heads.heads + a.heads.kv_heads + kv_head) * D
                              : page + reader.values_after / sizeof(E);
  // Tasks of the warps: eight queries, the key, the value.
  for (uint32_t task = warp; task < group + 2; task += warps) {
    if (task < heads) {
      const E* from = vector + (first_head + task) * D;
      if constexpr (Fused)
        angles.run(query_work, from, queries[task]);
      else
        copy_head<D>(from, queries[task]);
    } else if (task < group) {
      for (uint32_t i = lane; i < D; i += 32)
        queries[task][i] = narrow<E>(0);
    } else if (newest && task == group) {
      if constexpr (Fused) {
        angles.run(key_work, key_from, newest_key);
        if (inner == 0)
          copy_head<D>(newest_key, page);
      } else {
        copy_head<D>(key_from, newest_key);
      }
    } else if (newest) {
      copy_head<D>(value_from, newest_value);
      if (Fused && inner == 0)
        copy_head<D>(newest_value, page + reader.values_after / sizeof(E));
    }
  }
  __syncthreads();

  uint4 q[joins];
#pragma unroll
  for (int j = 0; j < joins; ++j)
    q[j] = *reinterpret_cast<const uint4*>(&queries[g][(t + 4 * j) * 8]);

  const float scale = a.scale * 1.44269504088896341f; // Powers of two are what the chip computes.
  float top = -INFINITY, mass = 0;
  float sums[chunks][2];
#pragma unroll
  for (int n = 0; n < chunks; ++n)
    sums[n][0] = sums[n][1] = 0;
  uint32_t stage = 0;
  for (uint32_t at = range.first + warp * tile; at < range.last; at += tile * warps) {
    wait_copies<stages - 2>();
    __syncwarp();
    fetch();
    unsigned char* data = shared + (warp * stages + stage) * 2 * half_stage;
    if (newest && position - at < tile) {
      const uint32_t r = position - at;
      if (lane < chunks) {
        auto* keys = reinterpret_cast<uint4*>(data) + r * chunks;
        auto* values = reinterpret_cast<uint4*>(data + half_stage) + r * chunks;
        keys[lane ^ ((r & 1) << 2)] = reinterpret_cast<const uint4*>(newest_key)[lane];
        values[lane ^ (r & 7)] = reinterpret_cast<const uint4*>(newest_value)[lane];
      }
      __syncwarp();
    }
    float scores[2][2];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      scores[n][0] = scores[n][1] = 0;
      const auto* keys = reinterpret_cast<const uint4*>(data) + (n * 8 + g) * chunks;
#pragma unroll
      for (int j = 0; j < joins; ++j) {
        const uint4 k = keys[(t + 4 * j) ^ ((g & 1) << 2)];
        multiply_accumulate<E>(scores[n], q[j].x, q[j].y, k.x, k.y);
        multiply_accumulate<E>(scores[n], q[j].z, q[j].w, k.z, k.w);
      }
    }
    float highest = top;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const uint32_t p = at + n * 8 + t * 2 + c;
        scores[n][c] = p < range.last && p >= lowest ? scores[n][c] * scale : -INFINITY;
        highest = fmaxf(highest, scores[n][c]);
      }
    highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(all_lanes, highest, 2));
    // A tile that the window hides has no maximum yet.
    const float base = highest == -INFINITY ? 0 : highest;
    const float keep = exp2f(top - base);
    top = highest;
    mass *= keep;
    uint32_t weights[2];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float x = exp2f(scores[n][0] - base), y = exp2f(scores[n][1] - base);
      mass += x + y;
      weights[n] = pack<E>(x, y);
    }
#pragma unroll
    for (int n = 0; n < chunks; ++n) {
      sums[n][0] *= keep;
      sums[n][1] *= keep;
    }
    const uint32_t values = ring + stage * 2 * half_stage + half_stage;
#pragma unroll
    for (int n = 0; n < chunks; n += 2) {
      const uint32_t r = lane % 16, chunk = n + lane / 16;
      uint32_t v[4];
      load_transposed(v, values + (r * chunks + (chunk ^ (r & 7))) * 16);
      multiply_accumulate<E>(sums[n], weights[0], weights[1], v[0], v[1]);
      multiply_accumulate<E>(sums[n + 1], weights[0], weights[1], v[2], v[3]);
    }
    stage = stage + 1 == stages ? 0 : stage + 1;
  }
  mass += __shfl_xor_sync(all_lanes, mass, 1);
  mass += __shfl_xor_sync(all_lanes, mass, 2);

  // The warps' results, in their order.
  wait_copies<0>();
  __syncthreads();
  float* joined = reinterpret_cast<float*>(shared); // [warps][group][D]
  if (t == 0) {
    tops[warp][g] = top;
    masses[warp][g] = mass;
  }
#pragma unroll
  for (int n = 0; n < chunks; ++n)
    *reinterpret_cast<float2*>(joined + (warp * group + g) * D + n * 8 + t * 2) = {sums[n][0],
                                                                                   sums[n][1]};
  __syncthreads();
  const bool alone = range.used == 1;
  const size_t all = size_t{a.step.rows} * a.heads.heads;
  for (uint32_t i = threadIdx.x; i < heads * D; i += warps * 32) {
    const uint32_t h = i / D, d = i % D;
    float best = tops[0][h];
    for (int w = 1; w < warps; ++w)
      best = fmaxf(best, tops[w][h]);
    float total = 0, sum = 0;
    for (int w = 0; w < warps; ++w) {
      const float share = tops[w][h] == -INFINITY ? 0 : exp2f(tops[w][h] - best);
      total += share * masses[w][h];
      sum += share * joined[(w * group + h) * D + d];
    }
    if (alone) {
      static_cast<E*>(a.out)[token * a.out_stride + (first_head + h) * D + d] =
          narrow<E>(sum / total);
      continue;
    }
    const size_t place = (size_t{row} * a.heads.heads + first_head + h) * a.split.parts + part;
    __stcg(a.partial + place * D + d, sum);
    if (d == 0) {
      float* mark = a.partial + all * a.split.parts * D + place * 2;
      __stcg(mark, best);
      __stcg(mark + 1, total);
    }
  }
  if (alone)
    return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t* counter = a.counters + row * gridDim.y + blockIdx.y;
    last_one = atomicAdd(counter, 1) + 1 == range.used;
    if (last_one)
      *counter = 0;
  }
  __syncthreads();
  if (!last_one)
    return;
  __threadfence();
  combine<E, D>(a, row, token, first_head, heads, range.used, reinterpret_cast<float*>(shared));
}

template <class E, int D, bool Fused>
cudaError_t run(const launcher& on, const arguments& a) {
  const uint32_t per_kv = a.heads.heads / a.heads.kv_heads;
  const dim3 grid{a.split.parts, a.heads.kv_heads * ceil_div(per_kv, group), a.step.rows};
  constexpr size_t shared = size_t{warps} * stages * 2 * tile * D * 2;
  static_assert(shared >= warps * group * D * sizeof(float));
  return launch(on, decode_kernel<E, D, Fused>, grid, warps * 32, shared, a);
}

template <bool Fused>
cudaError_t run(const launcher& on, const arguments& a) {
  const bool wide = a.heads.head_size == 128;
  if (a.pages.type == element::bf16)
    return wide ? run<bf16, 128, Fused>(on, a) : run<bf16, 64, Fused>(on, a);
  return wide ? run<fp16, 128, Fused>(on, a) : run<fp16, 64, Fused>(on, a);
}

uint32_t counters_of(uint32_t rows, uint32_t heads, uint32_t kv_heads) {
  const uint32_t words = rows * kv_heads * ceil_div(heads / kv_heads, group);
  return ceil_div(words, 64) * 64;
}

bool valid(const attention& how, const kv_pages& pages, decode_split split) {
  return pages.kv_heads > 0 && how.heads % pages.kv_heads == 0 && pages.head_size <= 256 &&
         pages.head_size > 0 && split.parts >= 1 && split.parts <= most_parts;
}

bool is_fast(const kv_pages& pages) {
  return pages.type != element::fp32 && (pages.head_size == 64 || pages.head_size == 128) &&
         reinterpret_cast<uintptr_t>(pages.base) % 16 == 0 && pages.block_stride % 16 == 0;
}

arguments arguments_of(const step_arrays& step, const matrix& qkv, const head_arguments& heads,
                       const attention& how, const kv_pages& pages, decode_split split,
                       void* workspace, const matrix& out) {
  auto* counters = static_cast<uint32_t*>(workspace);
  const uint32_t words = counters_of(step.rows, how.heads, pages.kv_heads);
  return {.step = step,
          .qkv = qkv.data,
          .stride = qkv.stride,
          .heads = heads,
          .pages = pages,
          .out = out.data,
          .out_stride = out.stride,
          .scale = how.scale,
          .window = how.window,
          .split = split,
          .counters = counters,
          .partial = reinterpret_cast<float*>(counters + words)};
}

} // namespace

decode_split choose_decode_split(const device_traits& device, uint32_t rows, uint32_t kv_heads,
                                 uint32_t context, bool batch_invariant) {
  if (batch_invariant) {
    const uint32_t each = std::max(256u, ceil_div(ceil_div(context, most_parts), 256) * 256);
    return {ceil_div(std::max(context, 1u), each), each};
  }
  // Three blocks per multiprocessor even out what lengths and rounding leave uneven.
  const uint32_t wanted =
      ceil_div(3 * static_cast<uint32_t>(device.multiprocessors), std::max(1u, rows * kv_heads));
  const uint32_t most = std::min(32u, ceil_div(std::max(context, 1u), least_part));
  return {std::clamp(wanted, 1u, most), 0};
}

size_t decode_workspace_bytes(uint32_t rows, uint32_t heads, uint32_t kv_heads, uint32_t head_size,
                              decode_split split) {
  return size_t{counters_of(rows, heads, kv_heads)} * sizeof(uint32_t) +
         size_t{rows} * heads * split.parts * (head_size + 2) * sizeof(float);
}

bool can_fuse_decode(const attention& how, const kv_pages& pages) {
  // More than eight query heads per kv head are two blocks, and one would read what the other
  // writes.
  return is_fast(pages) && how.heads / pages.kv_heads <= group;
}

cudaError_t attend_decode(const launcher& on, const step_arrays& step, const matrix& qkv,
                          const attention& how, const kv_pages& pages, decode_split split,
                          void* workspace, const matrix& out) {
  if (!valid(how, pages, split) || qkv.type != pages.type || out.type != pages.type)
    return cudaErrorInvalidValue;
  if (!is_fast(pages) || !is_wide(qkv) || out.stride % 2 != 0)
    return attend_any(on, step, qkv, how, pages, nullptr, step.rows, out);
  const auto heads = head_arguments_of(nullptr, nullptr, {}, how.heads, pages);
  return run<false>(on, arguments_of(step, qkv, heads, how, pages, split, workspace, out));
}

cudaError_t rotate_and_attend(const launcher& on, const step_arrays& step, const matrix& qkv,
                              const norm* q_norm, const norm* k_norm, const rotation& by,
                              const attention& how, const kv_pages& pages, decode_split split,
                              void* workspace, const matrix& out) {
  if (!valid(how, pages, split) || qkv.type != pages.type || out.type != pages.type ||
      !can_fuse_decode(how, pages) || !is_wide(qkv) || out.stride % 2 != 0)
    return cudaErrorInvalidValue;
  const auto heads = head_arguments_of(q_norm, k_norm, by, how.heads, pages);
  return run<true>(on, arguments_of(step, qkv, heads, how, pages, split, workspace, out));
}

} // namespace troupe::models::cuda
