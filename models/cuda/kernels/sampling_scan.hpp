#pragma once

#include "troupe/models/cuda/kernels/device_code.hpp"

/// Looking for things in a row of V values with one block, in a way that no order of threads can
/// change: counts and masses are integers. Only for .cu files.
namespace troupe::models::cuda {

inline constexpr int scan_threads = 1024;
inline constexpr int scan_warps = scan_threads / 32;
inline constexpr int scan_buckets = 2048;

/// Probability mass in units of 2^-40 of the most likely token.
using mass = unsigned long long;

struct scan_memory {
  mass buckets[scan_buckets];
  mass warps[scan_warps];
  mass before;
  uint32_t found;
};

/// Maps floats to integers of the same order; -0 and +0 stay equal.
__device__ inline uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline mass warp_total(mass x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    x += __shfl_xor_sync(all_lanes, x, step);
  return x;
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

/// Clears the buckets and adds f(i) = {bucket, mass} for each index.
template <class F>
__device__ void fill_buckets(scan_memory& s, uint32_t count, F f) {
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < scan_buckets; i += scan_threads)
    s.buckets[i] = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += scan_threads) {
    uint32_t bucket = 0;
    const mass m = f(i, bucket);
    if (m != 0)
      atomicAdd(&s.buckets[bucket], m);
  }
}

/// The k-th largest of key(i), duplicates counted; `above` gets how many are larger.
template <class Key>
__device__ uint32_t select_key(scan_memory& s, uint32_t count, uint32_t k, uint32_t& above,
                               Key key) {
  uint32_t prefix = 0, mask = 0;
  mass before = 0;
  for (int round = 0; round < 3; ++round) {
    const int shift = round == 0 ? 21 : round == 1 ? 10 : 0;
    const uint32_t bits = round == 2 ? 0x3ffu : 0x7ffu;
    fill_buckets(s, count, [&](uint32_t i, uint32_t& bucket) -> mass {
      const uint32_t x = key(i);
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

/// The first index, ascending, at which the running total of m(i) satisfies `reached`; where none
/// does, the last index of positive mass. 0 when there is no mass.
template <class Mass, class Reached>
__device__ uint32_t find_index(scan_memory& s, uint32_t count, Mass m, Reached reached) {
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t share = (count + scan_threads - 1) / scan_threads * 32;
  const uint32_t first = min(warp * share, count), last = min(first + share, count);
  mass sum = 0;
  for (uint32_t i = first + lane; i < last; i += 32)
    sum += m(i);
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
    for (uint32_t start = first; start < last; start += 32) {
      const uint32_t i = start + lane;
      const mass own = i < last ? m(i) : 0;
      mass running = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const mass other = __shfl_up_sync(all_lanes, running, step);
        if (lane >= static_cast<uint32_t>(step))
          running += other;
      }
      const uint32_t positive = __ballot_sync(all_lanes, own != 0);
      const uint32_t hits = __ballot_sync(all_lanes, own != 0 && reached(before + running));
      if (hits != 0) {
        result = start + __ffs(hits) - 1;
        break;
      }
      if (positive != 0)
        result = start + 31 - __clz(positive);
      before += __shfl_sync(all_lanes, running, 31);
    }
    if (lane == 0)
      s.found = result;
  }
  __syncthreads();
  const uint32_t result = s.found;
  __syncthreads();
  return result;
}

} // namespace troupe::models::cuda
