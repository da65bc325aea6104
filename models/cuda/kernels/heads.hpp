#pragma once

#include "troupe/models/cuda/kernels/device_code.hpp"

/// The pages' addresses, and what happens to a head of q or k before attention; shared by the
/// kernels that do it. Only for .cu files.
namespace troupe::models::cuda {

/// Keys and values of one kv head in the pages of a layer.
struct page_reader {
  const unsigned char* base;
  size_t block_stride;
  size_t head_bytes;   ///< Of one kv head's keys in a block.
  size_t values_after; ///< Bytes from keys to values.
  uint32_t block_tokens;

  __device__ page_reader(const kv_pages& p, uint32_t kv_head)
      : base(static_cast<const unsigned char*>(p.base)), block_stride(p.block_stride),
        head_bytes(size_t{p.block_tokens} * p.head_size * (p.type == element::fp32 ? 4 : 2)),
        values_after(head_bytes * p.kv_heads), block_tokens(p.block_tokens) {
    base += kv_head * head_bytes;
  }
  /// The key at a position, given the sequence's block table.
  template <class E>
  __device__ const E* key(const uint32_t* table, uint32_t position, uint32_t head_size) const {
    const uint32_t block = table[position / block_tokens];
    return reinterpret_cast<const E*>(base + block * block_stride) +
           static_cast<size_t>(position % block_tokens) * head_size;
  }
};

/// Norm and rotation of one head by one warp, in fp32. Lane l holds the elements i and i + half for
/// i = l, l + 32, ...; heads of up to 256 elements, of an even size where they are rotated.
struct head_work {
  const float* norm_weight = nullptr; ///< Null: no norm.
  float epsilon = 0;
  const float* frequencies = nullptr; ///< Null: no rotation.
  float factor = 1;
  float position = 0;

  static constexpr int most = 4; ///< Pairs per lane.

  template <class E>
  __device__ void run(const E* from, E* to, uint32_t size) const {
    const uint32_t lane = threadIdx.x % 32, half = (size + 1) / 2;
    float a[most], b[most], squares = 0;
#pragma unroll
    for (int n = 0; n < most; ++n) {
      const uint32_t i = lane + n * 32;
      a[n] = i < half ? widen(from[i]) : 0.0f;
      b[n] = i + half < size ? widen(from[i + half]) : 0.0f;
      squares += a[n] * a[n] + b[n] * b[n];
    }
    if (norm_weight != nullptr) {
      const float inverse = rsqrtf(warp_sum(squares) / static_cast<float>(size) + epsilon);
#pragma unroll
      for (int n = 0; n < most; ++n) {
        const uint32_t i = lane + n * 32;
        if (i < half)
          a[n] *= inverse * norm_weight[i];
        if (i + half < size)
          b[n] *= inverse * norm_weight[i + half];
      }
    }
#pragma unroll
    for (int n = 0; n < most; ++n) {
      const uint32_t i = lane + n * 32;
      if (i >= half)
        continue;
      if (frequencies != nullptr) {
        float sine, cosine;
        sincosf(position * frequencies[i], &sine, &cosine);
        sine *= factor;
        cosine *= factor;
        const float x = a[n] * cosine - b[n] * sine;
        b[n] = b[n] * cosine + a[n] * sine;
        a[n] = x;
      }
      to[i] = narrow<E>(a[n]);
      if (i + half < size)
        to[i + half] = narrow<E>(b[n]);
    }
  }
};

/// `head_work` for heads of 64 or 128 elements of 16 bits: the angles of a position are computed
/// once, before its heads are there. Lane l holds the pairs from l * pairs on.
template <int D>
struct head_angles {
  static_assert(D == 64 || D == 128);
  static constexpr int pairs = D / 64;
  float cosines[pairs], sines[pairs];

  __device__ void compute(const head_work& how) {
#pragma unroll
    for (int n = 0; n < pairs; ++n) {
      cosines[n] = 1;
      sines[n] = 0;
      if (how.frequencies == nullptr)
        continue;
      sincosf(how.position * how.frequencies[threadIdx.x % 32 * pairs + n], &sines[n], &cosines[n]);
      sines[n] *= how.factor;
      cosines[n] *= how.factor;
    }
  }

  template <class E>
  __device__ static void load(const E* from, float (&to)[pairs]) {
    if constexpr (pairs == 2) {
      const float2 v = unpack<E>(*reinterpret_cast<const uint32_t*>(from));
      to[0] = v.x;
      to[1] = v.y;
    } else {
      to[0] = widen(*from);
    }
  }
  template <class E>
  __device__ static void store(E* to, const float (&from)[pairs]) {
    if constexpr (pairs == 2)
      *reinterpret_cast<uint32_t*>(to) = pack<E>(from[0], from[1]);
    else
      *to = narrow<E>(from[0]);
  }

  template <class E>
  __device__ void run(const head_work& how, const E* from, E* to) const {
    const uint32_t first = threadIdx.x % 32 * pairs;
    float a[pairs], b[pairs], squares = 0;
    load(from + first, a);
    load(from + D / 2 + first, b);
#pragma unroll
    for (int n = 0; n < pairs; ++n)
      squares += a[n] * a[n] + b[n] * b[n];
    float inverse = 1;
    if (how.norm_weight != nullptr)
      inverse = rsqrtf(warp_sum(squares) / static_cast<float>(D) + how.epsilon);
#pragma unroll
    for (int n = 0; n < pairs; ++n) {
      if (how.norm_weight != nullptr) {
        a[n] *= inverse * how.norm_weight[first + n];
        b[n] *= inverse * how.norm_weight[first + n + D / 2];
      }
      if (how.frequencies != nullptr) {
        const float x = a[n] * cosines[n] - b[n] * sines[n];
        b[n] = b[n] * cosines[n] + a[n] * sines[n];
        a[n] = x;
      }
    }
    store(to + first, a);
    store(to + D / 2 + first, b);
    __syncwarp();
  }
};

/// Copies a head with one warp.
template <int D, class E>
__device__ inline void copy_head(const E* from, E* to) {
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t i = lane * 2; i < D; i += 64)
    *reinterpret_cast<uint32_t*>(to + i) = *reinterpret_cast<const uint32_t*>(from + i);
}

/// What rotation and norms need, as kernels get it.
struct head_arguments {
  norm q_norm, k_norm; ///< A null weight: none.
  rotation by;
  uint32_t heads, kv_heads, head_size;

  __device__ head_work work(bool key, uint32_t position, uint32_t slot) const {
    const norm& n = key ? k_norm : q_norm;
    const uint32_t table = by.tables != nullptr ? by.tables[slot] : 0;
    return {.norm_weight = n.weight,
            .epsilon = n.epsilon,
            .frequencies =
                by.frequencies != nullptr ? by.frequencies + table * (head_size / 2) : nullptr,
            .factor = by.factor,
            .position = static_cast<float>(position)};
  }
};

inline head_arguments head_arguments_of(const norm* q_norm, const norm* k_norm, const rotation& by,
                                        uint32_t heads, const kv_pages& pages) {
  return {.q_norm = q_norm != nullptr ? *q_norm : norm{},
          .k_norm = k_norm != nullptr ? *k_norm : norm{},
          .by = by,
          .heads = heads,
          .kv_heads = pages.kv_heads,
          .head_size = pages.head_size};
}

} // namespace troupe::models::cuda
