#pragma once

#include <cstdint>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "troupe/models/cuda/kernels/kernels.hpp"

/// What the kernels share: element types, wide loads, reductions, asynchronous copies, tensor core
/// products and launching. Only for .cu files.
namespace troupe::models::cuda {

using bf16 = __nv_bfloat16;
using fp16 = __half;

inline constexpr uint32_t all_lanes = 0xffffffffu;

// --- elements ---

__device__ inline float widen(float x) {
  return x;
}
__device__ inline float widen(bf16 x) {
  return __bfloat162float(x);
}
__device__ inline float widen(fp16 x) {
  return __half2float(x);
}

template <class E>
__device__ inline E narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 narrow<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline fp16 narrow<fp16>(float x) {
  return __float2half_rn(x);
}

/// Two elements of 16 bits in a register, the first one low.
template <class E>
__device__ inline uint32_t pack(float a, float b);
template <>
__device__ inline uint32_t pack<bf16>(float a, float b) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&v);
}
template <>
__device__ inline uint32_t pack<fp16>(float a, float b) {
  const __half2 v = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&v);
}

template <class E>
__device__ inline float2 unpack(uint32_t v);
template <>
__device__ inline float2 unpack<bf16>(uint32_t v) {
  return {__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u)};
}
template <>
__device__ inline float2 unpack<fp16>(uint32_t v) {
  return __half22float2(*reinterpret_cast<const __half2*>(&v));
}

/// Eight elements, aligned to 16 bytes.
template <class E>
__device__ inline void load8(const E* from, float (&to)[8]) {
  if constexpr (sizeof(E) == 4) {
    const float4 a = *reinterpret_cast<const float4*>(from);
    const float4 b = *reinterpret_cast<const float4*>(from + 4);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
  } else {
    const uint4 v = *reinterpret_cast<const uint4*>(from);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack<E>(words[i]);
      to[2 * i] = pair.x;
      to[2 * i + 1] = pair.y;
    }
  }
}

template <class E>
__device__ inline void store8(E* to, const float (&from)[8]) {
  if constexpr (sizeof(E) == 4) {
    *reinterpret_cast<float4*>(to) = {from[0], from[1], from[2], from[3]};
    *reinterpret_cast<float4*>(to + 4) = {from[4], from[5], from[6], from[7]};
  } else {
    *reinterpret_cast<uint4*>(to) = {pack<E>(from[0], from[1]), pack<E>(from[2], from[3]),
                                     pack<E>(from[4], from[5]), pack<E>(from[6], from[7])};
  }
}

// --- reductions, all in a fixed order ---

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    x = fmaxf(x, __shfl_xor_sync(all_lanes, x, step));
  return x;
}

/// The sum over a block of `Warps` warps, for all threads. @param shared [Warps]
template <int Warps>
__device__ inline float block_sum(float x, float* shared) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    shared[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int w = 0; w < Warps; ++w)
    total += shared[w];
  return total;
}

template <int Warps>
__device__ inline float block_max(float x, float* shared) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
    shared[threadIdx.x / 32] = x;
  __syncthreads();
  float best = shared[0];
#pragma unroll
  for (int w = 1; w < Warps; ++w)
    best = fmaxf(best, shared[w]);
  return best;
}

// --- asynchronous copies ---

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes past the L1; zeros where not `valid` (then `from` is not read).
__device__ inline void copy16(uint32_t to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(bytes)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most `Pending` groups of this thread are under way.
template <int Pending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// --- tensor cores ---

/// c += a b: a [16, 16], b [16, 8], c [16, 8], fragments as the PTX manual lays them out for
/// mma.m16n8k16.
template <class E>
__device__ inline void multiply_accumulate(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                           uint32_t a3, uint32_t b0, uint32_t b1) {
  if constexpr (sizeof(E) == 2 && std::is_same_v<E, bf16>)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// As above where rows 8 to 15 of `a` are zero: only half of c exists.
template <class E>
__device__ inline void multiply_accumulate(float (&c)[2], uint32_t a0, uint32_t a2, uint32_t b0,
                                           uint32_t b1) {
  float full[4] = {c[0], c[1], 0, 0};
  multiply_accumulate<E>(full, a0, 0, a2, 0, b0, b1);
  c[0] = full[0];
  c[1] = full[1];
}

/// Four 8x8 matrices of 16-bit elements, transposed on the way. @param row Of this lane.
__device__ inline void load_transposed(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

__device__ inline void load_matrices(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// --- order of launches ---

/// Lets the next kernel of the stream start its blocks as soon as ours all run.
__device__ inline void release_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Waits until the kernels before this one are complete; nothing that they write may be read, and
/// nothing that they read may be written, before. Every kernel calls it in every thread that goes
/// on to touch such memory.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <class... Parameters, class... Arguments>
cudaError_t launch(const launcher& on, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   size_t shared, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return cudaSuccess;
  // Static shared memory counts towards the 48 KiB that need no asking.
  if (shared > 32 * 1024)
    if (const auto e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared));
        e != cudaSuccess)
      return e;
  // The same cut of L1 and shared memory for all, so that kernels can share a multiprocessor.
  if (const auto e = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                          cudaSharedmemCarveoutMaxShared);
      e != cudaSuccess)
    return e;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = on.stream;
  config.attrs = &attribute;
  config.numAttrs = on.overlap && on.device.major >= 9 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

/// Calls f with a null pointer of the element's C++ type.
template <class F>
cudaError_t with_element(element e, F&& f) {
  switch (e) {
  case element::fp32:
    return f(static_cast<float*>(nullptr));
  case element::bf16:
    return f(static_cast<bf16*>(nullptr));
  case element::fp16:
    return f(static_cast<fp16*>(nullptr));
  }
  return cudaErrorInvalidValue;
}

/// Whether rows can be read 16 bytes at a time.
inline bool is_wide(const matrix& m) {
  return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && m.stride * size_of(m.type) % 16 == 0;
}

constexpr uint32_t ceil_div(uint32_t a, uint32_t b) {
  return (a + b - 1) / b;
}

/// f(x) as models/sampling's host counterpart (models/cpu/elementwise.hpp) defines the activations.
__device__ inline float activated(activation f, float x) {
  switch (f) {
  case activation::silu:
    return x / (1.0f + __expf(-x));
  case activation::gelu:
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752440f));
  case activation::gelu_tanh:
    return 0.5f * x * (1.0f + tanhf(0.79788456080286535588f * (x + 0.044715f * x * x * x)));
  case activation::relu:
    return x > 0 || isnan(x) ? x : 0.0f;
  case activation::none:
    break;
  }
  return x;
}

} // namespace troupe::models::cuda
