#pragma once

#include "troupe/models/cuda/kernels/device_code.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"

/// Looking for things in a row of scores with one block, in a way that no order of threads can
/// change: counts and masses are integers. Only for .cu files.
namespace troupe::models::cuda {

inline constexpr int scan_threads = 1024;
inline constexpr int scan_warps = scan_threads / 32;
inline constexpr int scan_buckets = 2048;
inline constexpr uint32_t scan_list = 2048;

/// Probability mass in units of 2^-40 of the most likely token.
using mass = unsigned long long;

/// The scores of a row after penalties, masks and temperature.
struct scores {
  const float* logits;
  uint32_t count;
  const slot_sampling* p;
  const uint32_t* counts; ///< Null: no penalties.
  bool masked_ends;
  float inverse; ///< 1 / temperature, or 1 when nothing is drawn.

  __device__ scores(const float* logits_, uint32_t count_, const slot_sampling* p_,
                    uint32_t* all_counts, uint32_t position)
      : logits(logits_), count(count_), p(p_), counts(nullptr),
        masked_ends(p_->eos_count != 0 && position < p_->eos_from),
        inverse(p_->sample != 0 ? 1.0f / p_->temperature : 1.0f) {
    if (p->counts_row != UINT32_MAX && all_counts != nullptr)
      counts = all_counts + size_t{p->counts_row} * count;
  }
  /// The raw row.
  __device__ scores(const float* logits_, uint32_t count_)
      : logits(logits_), count(count_), p(nullptr), counts(nullptr), masked_ends(false),
        inverse(1) {}

  /// Before the temperature.
  __device__ float processed(float x, uint32_t i) const {
    if (counts != nullptr)
      if (const uint32_t seen = counts[i]; seen != 0) {
        if (p->prompt_penalty != 1.0f && (seen & in_prompt_bit) != 0)
          x = x < 0 ? x * p->prompt_penalty : x / p->prompt_penalty;
        if (p->repetition_penalty != 1.0f)
          x = x < 0 ? x * p->repetition_penalty : x / p->repetition_penalty;
        // Rounded like the host's, which fuses nothing.
        if (const uint32_t times = seen & ~in_prompt_bit; times != 0)
          x = __fsub_rn(x, __fadd_rn(__fmul_rn(p->frequency_penalty, static_cast<float>(times)),
                                     p->presence_penalty));
      }
    if (masked_ends)
      for (uint32_t e = 0; e < p->eos_count; ++e)
        if (static_cast<uint32_t>(p->eos[e]) == i)
          x = -INFINITY;
    return x;
  }
  __device__ float of(float x, uint32_t i) const { return processed(x, i) * inverse; }

  /// Calls f(i, score) for four indices from `i` on, a multiple of four.
  template <class F>
  __device__ void four(uint32_t i, F&& f) const {
    if (i + 4 <= count && reinterpret_cast<uintptr_t>(logits) % 16 == 0) {
      const float4 x = *reinterpret_cast<const float4*>(logits + i);
      f(i, of(x.x, i));
      f(i + 1, of(x.y, i + 1));
      f(i + 2, of(x.z, i + 2));
      f(i + 3, of(x.w, i + 3));
      return;
    }
    for (uint32_t n = i; n < min(i + 4, count); ++n)
      f(n, of(logits[n], n));
  }
  /// Calls f(i, score) for all indices, spread over the block's threads.
  template <class F>
  __device__ void each(F&& f) const {
    for (uint32_t i = threadIdx.x * 4; i < count; i += scan_threads * 4)
      four(i, f);
  }
};

/// Distances below the highest score in steps of 2^-17, up to 32; the upper 11 bits are coarse.
__device__ inline uint32_t drop_key(float highest, float score) {
  constexpr uint32_t last = (1u << 22) - 1;
  const float steps = (highest - score) * 131072.0f;
  return steps < static_cast<float>(last) ? static_cast<uint32_t>(steps) : last;
}
__device__ inline uint32_t coarse_key(float highest, float score) {
  return drop_key(highest, score) >> 11;
}

/// exp(score - highest)
__device__ inline float share_of(float highest, float score) {
  return exp2f((score - highest) * 1.44269504088896341f);
}

/// As atomicAdd, which shared memory has for 32 bits only.
__device__ inline void add_to(mass* bucket, mass m) {
  auto* words = reinterpret_cast<uint32_t*>(bucket);
  const auto low = static_cast<uint32_t>(m);
  const uint32_t before = atomicAdd(words, low);
  const uint32_t high = static_cast<uint32_t>(m >> 32) + (before + low < before ? 1 : 0);
  if (high != 0)
    atomicAdd(words + 1, high);
}

struct scan_memory {
  mass buckets[scan_buckets];
  uint64_t list[scan_list];
  mass warps[scan_warps];
  mass before;
  uint64_t crossing;
  uint32_t found, listed;
};

/// Maps floats to integers of the same order; -0 and +0 stay equal.
__device__ inline uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline float value_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

/// A score and its token in one number, whose order is that of scores and then of ids.
__device__ inline uint64_t entry_of(float score, uint32_t id) {
  return uint64_t{ordered(score)} << 32 | id;
}
__device__ inline float score_of(uint64_t entry) {
  return value_of(static_cast<uint32_t>(entry >> 32));
}
__device__ inline uint32_t id_of(uint64_t entry) {
  return static_cast<uint32_t>(entry);
}

__device__ inline mass warp_total(mass x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}

__device__ inline mass block_total(scan_memory& s, mass x) {
  x = warp_total(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    s.warps[threadIdx.x / 32] = x;
  __syncthreads();
  mass total = 0;
  for (int w = 0; w < scan_warps; ++w)
    total += s.warps[w];
  return total;
}

/// Finds the bucket at which the running total, from the last bucket down, satisfies
/// `reached(total)`, which once true stays true. Gives the bucket (or scan_buckets when none does)
/// and the total before it, to all threads.
template <class Reached>
__device__ uint32_t find_bucket(scan_memory& s, mass& before, Reached reached) {
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // A warp adds up its 64 buckets, the last warp the first ones.
  constexpr uint32_t share = scan_buckets / scan_warps;
  const uint32_t top = scan_buckets - 1 - warp * share;
  mass sum = 0;
  for (uint32_t i = lane; i < share; i += 32)
    sum += s.buckets[top - i];
  sum = warp_total(sum);
  if (lane == 0)
    s.warps[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    mass total = before;
    uint32_t bucket = scan_buckets;
    for (uint32_t w = 0; w < scan_warps; ++w) {
      if (!reached(total + s.warps[w])) {
        total += s.warps[w];
        continue;
      }
      for (uint32_t i = 0; i < share; ++i) {
        const uint32_t b = scan_buckets - 1 - w * share - i;
        if (reached(total + s.buckets[b])) {
          bucket = b;
          break;
        }
        total += s.buckets[b];
      }
      break;
    }
    s.found = bucket;
    s.before = total;
  }
  __syncthreads();
  before = s.before;
  const uint32_t result = s.found;
  __syncthreads();
  return result;
}

/// Clears the buckets and adds f(i, score, bucket) to the bucket that it names, for each score.
template <class F>
__device__ void fill_buckets(scan_memory& s, const scores& row, F f) {
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < scan_buckets; i += scan_threads)
    s.buckets[i] = 0;
  __syncthreads();
  row.each([&](uint32_t i, float score) {
    uint32_t bucket = 0;
    const mass m = f(i, score, bucket);
    if (m != 0)
      add_to(&s.buckets[bucket], m);
  });
}

/// The ordered key of the k-th largest score, duplicates counted; `above` gets how many are larger.
__device__ inline uint32_t select_key(scan_memory& s, const scores& row, uint32_t k,
                                      uint32_t& above) {
  uint32_t prefix = 0, mask = 0;
  mass before = 0;
  for (int round = 0; round < 3; ++round) {
    const int shift = round == 0 ? 21 : round == 1 ? 10 : 0;
    const uint32_t bits = round == 2 ? 0x3ffu : 0x7ffu;
    fill_buckets(s, row, [&](uint32_t, float score, uint32_t& bucket) -> mass {
      const uint32_t x = ordered(score);
      bucket = (x >> shift) & bits;
      return (x & mask) == prefix ? 1 : 0;
    });
    const uint32_t bucket = find_bucket(s, before, [&](mass total) { return total >= k; });
    prefix |= bucket << shift;
    mask |= bits << shift;
  }
  above = static_cast<uint32_t>(before);
  return prefix;
}

/// Lists the scores that `wanted(i, score)`, in no order. @returns how many there are; more than
/// scan_list means that the list holds only some.
template <class Wanted>
__device__ uint32_t fill_list(scan_memory& s, const scores& row, Wanted wanted) {
  __syncthreads();
  if (threadIdx.x == 0)
    s.listed = 0;
  __syncthreads();
  row.each([&](uint32_t i, float score) {
    if (wanted(i, score))
      if (const uint32_t place = atomicAdd(&s.listed, 1u); place < scan_list)
        s.list[place] = entry_of(score, i);
  });
  __syncthreads();
  const uint32_t result = s.listed;
  __syncthreads();
  return result;
}

/// Sorts the first `count` numbers of the list, ascending, by Batcher's bitonic network.
/// @pre count <= scan_list
__device__ inline void sort_list(scan_memory& s, uint32_t count) {
  uint32_t size = 2;
  while (size < count)
    size *= 2;
  __syncthreads();
  for (uint32_t i = count + threadIdx.x; i < size; i += scan_threads)
    s.list[i] = ~uint64_t{0};
  for (uint32_t run = 2; run <= size; run *= 2)
    for (uint32_t apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      if (threadIdx.x >= size / 2)
        continue;
      const uint32_t low = threadIdx.x / apart * apart * 2 + threadIdx.x % apart;
      const uint64_t a = s.list[low], b = s.list[low + apart];
      if ((a > b) == ((low & run) == 0)) {
        s.list[low] = b;
        s.list[low + apart] = a;
      }
    }
  __syncthreads();
}

/// What the threads before this one hold together; `total` gets what all do.
__device__ inline mass sum_before(scan_memory& s, mass own, mass& total) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  mass running = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const mass other = __shfl_up_sync(all_lanes, running, step);
    if (lane >= static_cast<uint32_t>(step))
      running += other;
  }
  __syncthreads();
  if (lane == 31)
    s.warps[warp] = running;
  __syncthreads();
  mass before = running - own;
  total = 0;
  for (uint32_t w = 0; w < scan_warps; ++w) {
    if (w < warp)
      before += s.warps[w];
    total += s.warps[w];
  }
  return before;
}

/// The first index in [begin, end), ascending, at which the running total of m(i, score) satisfies
/// `reached`; where none does, the last index of positive mass. 0 when there is no mass.
/// @param begin A multiple of four.
template <class Mass, class Reached>
__device__ uint32_t find_index(scan_memory& s, const scores& row, uint32_t begin, uint32_t end,
                               Mass m, Reached reached) {
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t share = (end - begin + scan_warps * 128 - 1) / (scan_warps * 128) * 128;
  const uint32_t first = min(begin + warp * share, end), last = min(first + share, end);
  mass sum = 0;
  for (uint32_t i = first + lane * 4; i < last; i += 128)
    row.four(i, [&](uint32_t n, float score) { sum += m(n, score); });
  sum = warp_total(sum);
  if (lane == 0)
    s.warps[warp] = sum;
  __syncthreads();
  // Every warp finds out whose share holds the place.
  mass before = 0;
  uint32_t owner = 0;
  for (uint32_t w = 0; w < scan_warps; ++w) {
    if (s.warps[w] == 0)
      continue;
    if (w != owner)
      before += s.warps[owner];
    owner = w;
    if (reached(before + s.warps[w]))
      break;
  }
  if (warp == owner) {
    uint32_t result = 0;
    for (uint32_t start = first; start < last; start += 128) {
      mass own[4] = {};
      const uint32_t i = start + lane * 4;
      if (i < last)
        row.four(i, [&](uint32_t n, float score) { own[n - i] = m(n, score); });
      mass running = own[0] + own[1] + own[2] + own[3];
      const mass all = running;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const mass other = __shfl_up_sync(all_lanes, running, step);
        if (lane >= static_cast<uint32_t>(step))
          running += other;
      }
      const mass total = __shfl_sync(all_lanes, running, 31);
      // The last place of positive mass in this lane, and the first that reaches.
      mass sum_here = before + running - all;
      uint32_t positive = 0, hit = 0;
#pragma unroll
      for (uint32_t n = 0; n < 4; ++n) {
        sum_here += own[n];
        if (own[n] == 0)
          continue;
        positive = i + n + 1;
        if (hit == 0 && reached(sum_here))
          hit = i + n + 1;
      }
      if (const uint32_t hits = __ballot_sync(all_lanes, hit != 0); hits != 0) {
        result = __shfl_sync(all_lanes, hit, __ffs(hits) - 1) - 1;
        break;
      }
      if (const uint32_t some = __ballot_sync(all_lanes, positive != 0); some != 0)
        result = __shfl_sync(all_lanes, positive, 31 - __clz(some)) - 1;
      before += total;
    }
    if (lane == 0)
      s.found = result;
  }
  __syncthreads();
  const uint32_t result = s.found;
  __syncthreads();
  return result;
}

template <class Mass, class Reached>
__device__ uint32_t find_index(scan_memory& s, const scores& row, Mass m, Reached reached) {
  return find_index(s, row, 0, row.count, m, reached);
}

} // namespace troupe::models::cuda
