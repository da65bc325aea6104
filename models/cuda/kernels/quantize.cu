#include <algorithm>

#include "troupe/models/cuda/kernels/device_code.hpp"
#include "troupe/models/cuda/kernels/quantize.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int threads = 256;

/// Of rows and columns of a matrix as a file holds it.
template <class E>
__device__ float stored(const E* from, bool transposed, uint32_t rows, uint32_t k, uint32_t row,
                        uint32_t column) {
  return widen(transposed ? from[size_t{column} * rows + row] : from[size_t{row} * k + column]);
}

__device__ float rounded_to_fp16(float x) {
  return __half2float(__float2half_rn(x));
}

/// A block per row.
template <class E>
__global__ void __launch_bounds__(threads)
    int8_weight_kernel(const E* from, bool transposed, uint32_t rows, uint32_t k, uint8_t* codes,
                       float* scales) {
  __shared__ float shared[threads / 32];
  release_next();
  wait_for_previous();
  const uint32_t row = blockIdx.x;
  float largest = 0;
  for (uint32_t c = threadIdx.x; c < k; c += threads)
    largest = fmaxf(largest, fabsf(rounded_to_fp16(stored(from, transposed, rows, k, row, c))));
  largest = block_max<threads / 32>(largest, shared);
  const float factor = largest > 0 ? __fmul_rn(int8_codes, __frcp_rn(largest)) : 0.0f;
  if (threadIdx.x == 0)
    scales[row] = __fdiv_rn(largest, int8_codes);
  for (uint32_t c = threadIdx.x; c < k; c += threads) {
    const float x = __fmul_rn(rounded_to_fp16(stored(from, transposed, rows, k, row, c)), factor);
    codes[size_t{row} * k + c] =
        static_cast<uint8_t>(__float2int_rn(fminf(fmaxf(x, -int8_codes), int8_codes)) + 128);
  }
}

/// A warp per block of 64 weights.
template <class E>
__global__ void __launch_bounds__(threads)
    fp4_largest_kernel(const E* from, bool transposed, uint32_t rows, uint32_t k, float* largest) {
  release_next();
  wait_for_previous();
  const size_t count = size_t{rows} * k;
  const size_t block = size_t{blockIdx.x} * (threads / 32) + threadIdx.x / 32;
  if (block * fp4_block >= count)
    return;
  float most = 0;
  for (size_t i = block * fp4_block + threadIdx.x % 32; i < min((block + 1) * fp4_block, count);
       i += 32)
    most = fmaxf(most, fabsf(stored(from, transposed, rows, k, static_cast<uint32_t>(i / k),
                                    static_cast<uint32_t>(i % k))));
  most = warp_max(most);
  if (threadIdx.x % 32 == 0)
    largest[block] = most;
}

/// A thread per byte of codes.
template <class E>
__global__ void __launch_bounds__(threads)
    fp4_weight_kernel(const E* from, bool transposed, uint32_t rows, uint32_t k, uint32_t span,
                      const float* largest, uint8_t* codes, float* scales, uint32_t n) {
  release_next();
  wait_for_previous();
  const uint32_t row = blockIdx.y, bytes = (k + 1) / 2;
  const uint32_t byte = blockIdx.x * threads + threadIdx.x;
  if (byte >= bytes)
    return;
  uint32_t both = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t column = 2 * byte + half;
    if (column >= k)
      break;
    const float scale = largest[(size_t{row} * k + column) / fp4_block];
    const float x = stored(from, transposed, rows, k, row, column);
    both |= uint32_t{fp4_code(__fmul_rn(x, __frcp_rn(scale)))} << (4 * half);
    if (column % span == 0)
      scales[size_t{column / span} * n + row] = scale;
  }
  codes[size_t{row} * bytes + byte] = static_cast<uint8_t>(both);
}

/// Where k stands in the order of products.
__device__ uint32_t place_of(quantization how, uint32_t k) {
  if (how == quantization::int8) {
    const uint32_t in = k % 4;
    return in == 1 ? k + 1 : in == 2 ? k - 1 : k;
  }
  const uint32_t in = k % 8;
  return k - in + (in < 4 ? 2 * in : 2 * in - 7);
}

/// What stands at a place of eight k, the other way round.
__device__ constexpr int int8_source(int place) {
  return place % 4 == 1 ? place + 1 : place % 4 == 2 ? place - 1 : place;
}
__device__ constexpr int fp4_source(int place) {
  return place / 2 + place % 2 * 4;
}

/// 2^e
__device__ float power_of_two(int e) {
  return __int_as_float((e + 127) << 23);
}

/// The largest e with 2^e <= x. @pre x is a normal number
__device__ int exponent_of(float x) {
  return ((__float_as_int(x) >> 23) & 0xff) - 127;
}

constexpr int row_threads = 512;
constexpr int row_width = 8;                            // k that a thread takes at a time.
constexpr uint32_t row_piece = row_threads * row_width; // k that all threads take at once.

/// How the numbers of a row become those that are multiplied. In fp16 the largest number becomes
/// 2^14 to 2^15 for fp4, and no more than that for int8: whole codes stay whole down to 2^-24.
struct row_form {
  bool codes = false;
  float scale = 1, factor = 1, power = 1;
  int shift = 0;

  /// @param largest Of the numbers that become codes. @param outliers Of the others.
  __device__ row_form(bool codes_, float largest, float outliers, bool narrow) : codes(codes_) {
    if (largest > 0) {
      scale = __fdiv_rn(largest, int8_codes);
      factor = __fmul_rn(int8_codes, __frcp_rn(largest));
    }
    if (narrow) {
      const float most = __fdiv_rn(outliers, scale);
      if (most > 0x1p-100f && most < 0x1p100f)
        shift = 14 - exponent_of(most);
      if (codes)
        shift = max(min(shift, 0), -24);
    }
    power = power_of_two(shift);
  }
  __device__ float operator()(float v) const {
    const float half = rounded_to_fp16(v);
    if (codes)
      v = fabsf(half) < outlier_threshold ? rintf(__fmul_rn(half, factor)) : __fdiv_rn(v, scale);
    return v * power;
  }
  __device__ float row_scale() const { return scale * power_of_two(-shift); }
};

/// Adds a number to what `row_form` wants to know.
__device__ void look_at(bool codes, float v, float& largest, float& outliers) {
  const float size = fabsf(codes ? rounded_to_fp16(v) : v);
  // A NaN is among the outliers, too.
  if (codes && size < outlier_threshold)
    largest = fmaxf(largest, size);
  else
    outliers = fmaxf(outliers, fabsf(v));
}

/// A block per row, whose k are a multiple of eight and no more than Pieces * row_piece. In is the
/// type of x, or float for what `by` normalises; that is rounded to Rounded first.
template <class In, class Rounded, class Out, int Pieces, bool Normed>
__global__ void __launch_bounds__(row_threads)
    rows_kernel(const norm by, const In* x, size_t x_stride, uint32_t k, quantization how,
                bool reordered, Out* out, size_t out_stride, float* row_scales) {
  __shared__ float shared[row_threads / 32];
  release_next();
  const auto each = [&](auto&& f) {
#pragma unroll
    for (int p = 0; p < Pieces; ++p)
      if (const uint32_t c = p * row_piece + threadIdx.x * row_width; c < k)
        f(p, c);
  };
  float weights[Normed ? Pieces : 1][row_width];
  // They come from memory, later than all else.
  if constexpr (Normed)
    each([&](int p, uint32_t c) { load8(by.weight + c, weights[p]); });
  wait_for_previous();
  x += blockIdx.x * x_stride;
  out += blockIdx.x * out_stride;
  float v[Pieces][row_width];
  each([&](int p, uint32_t c) { load8(x + c, v[p]); });
  if constexpr (Normed) {
    const float count = static_cast<float>(k);
    float mean = 0, squares = 0;
    if (by.function == norm_function::layer) {
      each([&](int p, uint32_t) {
#pragma unroll
        for (int i = 0; i < row_width; ++i)
          mean += v[p][i];
      });
      mean = block_sum<row_threads / 32>(mean, shared) / count;
    }
    each([&](int p, uint32_t) {
#pragma unroll
      for (int i = 0; i < row_width; ++i)
        squares += (v[p][i] - mean) * (v[p][i] - mean);
    });
    const float inverse = rsqrtf(block_sum<row_threads / 32>(squares, shared) / count + by.epsilon);
    each([&](int p, uint32_t c) {
#pragma unroll
      for (int i = 0; i < row_width; ++i) {
        float y = (v[p][i] - mean) * inverse * weights[p][i];
        if (by.bias != nullptr)
          y += by.bias[c + i];
        v[p][i] = widen(narrow<Rounded>(y));
      }
    });
  }
  const bool codes = how == quantization::int8;
  float largest = 0, outliers = 0;
  each([&](int p, uint32_t) {
#pragma unroll
    for (int i = 0; i < row_width; ++i)
      look_at(codes, v[p][i], largest, outliers);
  });
  largest = block_max<row_threads / 32>(largest, shared);
  outliers = block_max<row_threads / 32>(outliers, shared);
  const row_form form(codes, largest, outliers, sizeof(Out) == 2);
  each([&](int p, uint32_t c) {
    float placed[row_width];
#pragma unroll
    for (int i = 0; i < row_width; ++i)
      placed[i] = form(!reordered ? v[p][i] : codes ? v[p][int8_source(i)] : v[p][fp4_source(i)]);
    store8(out + c, placed);
  });
  if (threadIdx.x == 0)
    row_scales[blockIdx.x] = form.row_scale();
}

/// The same for rows of any length and alignment, of x as it is.
template <class In, class Out>
__global__ void __launch_bounds__(row_threads)
    any_rows_kernel(const In* x, size_t x_stride, uint32_t k, quantization how, bool reordered,
                    Out* out, size_t out_stride, float* row_scales) {
  __shared__ float shared[row_threads / 32];
  release_next();
  wait_for_previous();
  x += blockIdx.x * x_stride;
  out += blockIdx.x * out_stride;
  const bool codes = how == quantization::int8;
  float largest = 0, outliers = 0;
  for (uint32_t c = threadIdx.x; c < k; c += row_threads)
    look_at(codes, widen(x[c]), largest, outliers);
  largest = block_max<row_threads / 32>(largest, shared);
  outliers = block_max<row_threads / 32>(outliers, shared);
  const row_form form(codes, largest, outliers, sizeof(Out) == 2);
  for (uint32_t c = threadIdx.x; c < k; c += row_threads)
    out[reordered ? place_of(how, c) : c] = narrow<Out>(form(widen(x[c])));
  if (threadIdx.x == 0)
    row_scales[blockIdx.x] = form.row_scale();
}

/// fp4_values times 12: but for the smallest, whole numbers, a half byte each.
__device__ float twelvefold(uint32_t code) {
  const uint32_t size = code & 7;
  const float value = size == 1 ? 0.0625f : static_cast<float>((0x3264'C800u >> (4 * size)) & 15);
  return code & 8 ? -value : value;
}

__device__ float weight_at(const weight& by, uint32_t row, uint32_t k, uint32_t span) {
  if (by.kept_as == quantization::int8)
    return static_cast<float>(static_cast<const uint8_t*>(by.data)[size_t{row} * by.k + k]) - 128;
  const uint32_t byte =
      static_cast<const uint8_t*>(by.data)[size_t{row} * ((by.k + 1) / 2) + k / 2];
  return twelvefold(k % 2 == 0 ? byte & 15 : byte >> 4) *
         (by.scales[size_t{k / span} * by.n + row] * (1.0f / 12));
}

/// Eight k of a row in the order of products. @pre is_reordered(by)
template <class Out>
__device__ void int8_weights(const weight& by, uint32_t row, uint32_t k, Out* to) {
  const uint2 codes = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(by.data) +
                                                      size_t{row} * by.k + k);
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t byte = ((i < 4 ? codes.x : codes.y) >> (8 * (i % 4))) & 255;
    v[place_of(quantization::int8, i)] = static_cast<float>(static_cast<int>(byte) - 128);
  }
  store8(to + k, v);
}

template <class Out>
__device__ void fp4_weights(const weight& by, uint32_t row, uint32_t k, Out* to) {
  const uint32_t codes = *reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(by.data) +
                                                            size_t{row} * (by.k / 2) + k / 2);
  const float scale = by.scales[size_t{k / fp4_block} * by.n + row] * (1.0f / 12);
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i)
    v[place_of(quantization::fp4, i)] = twelvefold((codes >> (4 * i)) & 15) * scale;
  store8(to + k, v);
}

/// A thread takes eight k of a row.
template <class Out>
__global__ void __launch_bounds__(threads)
    dequantize_kernel(const weight by, uint32_t span, bool gated, bool reordered, uint32_t first,
                      uint32_t rows, Out* out) {
  release_next();
  wait_for_previous();
  const uint32_t from = (blockIdx.x * threads + threadIdx.x) * 8;
  const uint32_t half = gated ? rows / 2 : rows;
  for (uint32_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const uint32_t row = r < half ? first + r : by.n / 2 + first + (r - half);
    Out* to = out + size_t{r} * by.k;
    if (reordered) {
      if (from >= by.k)
        return;
      if (by.kept_as == quantization::int8)
        int8_weights(by, row, from, to);
      else
        fp4_weights(by, row, from, to);
      continue;
    }
    for (uint32_t c = from; c < min(from + 8, by.k); ++c)
      to[c] = narrow<Out>(weight_at(by, row, c, span));
  }
}

template <class Y>
__global__ void __launch_bounds__(threads)
    finish_kernel(const weight by, activation function, bool gated, bool accumulate, uint32_t first,
                  uint32_t count, const float* sums, size_t sums_stride, const float* row_scales,
                  Y* y, size_t y_stride, uint32_t tokens) {
  release_next();
  wait_for_previous();
  const uint32_t c = blockIdx.x * threads + threadIdx.x;
  if (c >= count)
    return;
  const auto whole = [&](uint32_t token, uint32_t column, uint32_t row) {
    float value = sums[token * sums_stride + column] * row_scales[token];
    if (by.kept_as == quantization::int8)
      value *= by.scales[row];
    return by.bias != nullptr ? value + by.bias[row] : value;
  };
  for (uint32_t token = blockIdx.y; token < tokens; token += gridDim.y) {
    float value = activated(function, whole(token, c, first + c));
    if (gated)
      value *= whole(token, count + c, by.n / 2 + first + c);
    Y* place = y + token * y_stride + first + c;
    *place = narrow<Y>(accumulate ? widen(*place) + value : value);
  }
}

uint32_t most_rows(uint32_t rows) {
  return std::min(rows, 65535u);
}

} // namespace

cudaError_t quantize_weight(const launcher& on, const void* from, element from_type,
                            bool transposed, uint32_t rows, uint32_t first, const weight& into,
                            float* largest) {
  const uint32_t k = into.k;
  const auto span = static_cast<uint32_t>(fp4_scale_span(k));
  auto* codes =
      static_cast<uint8_t*>(const_cast<void*>(into.data)) + first * code_row_bytes(into.kept_as, k);
  auto* scales = const_cast<float*>(into.scales) + first;
  return with_element(from_type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    const auto* source = static_cast<const E*>(from);
    if (into.kept_as == quantization::int8)
      return launch(on, int8_weight_kernel<E>, rows, threads, 0, source, transposed, rows, k, codes,
                    scales);
    const size_t blocks = (size_t{rows} * k + fp4_block - 1) / fp4_block;
    const auto grid = static_cast<uint32_t>((blocks + threads / 32 - 1) / (threads / 32));
    if (const auto error = launch(on, fp4_largest_kernel<E>, grid, threads, 0, source, transposed,
                                  rows, k, largest);
        error != cudaSuccess)
      return error;
    // The grid's second dimension has 16 bits.
    for (uint32_t row = 0; row < rows; row += 65504) {
      const uint32_t count = std::min(rows - row, 65504u);
      if (transposed && row > 0)
        return cudaErrorInvalidValue;
      if (const auto error =
              launch(on, fp4_weight_kernel<E>, dim3{ceil_div((k + 1) / 2, threads), count}, threads,
                     0, source + size_t{row} * k, transposed, rows, k, span,
                     largest + size_t{row} * k / fp4_block,
                     codes + row * code_row_bytes(into.kept_as, k), scales + row, into.n);
          error != cudaSuccess)
        return error;
    }
    return cudaSuccess;
  });
}

bool can_normalize(const linear_call& call) {
  return call.before != nullptr && call.by.k % row_width == 0 && call.by.k <= 4 * row_piece &&
         call.x.type == element::fp32 && is_wide(call.x) &&
         reinterpret_cast<uintptr_t>(call.before->weight) % 16 == 0;
}

cudaError_t quantize_rows(const launcher& on, const linear_call& call, const matrix& out,
                          float* row_scales) {
  const auto& x = call.x;
  const auto& by = call.by;
  const bool reordered = is_reordered(by);
  const auto to = [&](auto&& f) {
    return out.type == element::fp32 ? f(static_cast<float*>(out.data))
                                     : f(static_cast<fp16*>(out.data));
  };
  if (call.before != nullptr) {
    if (!can_normalize(call) || !is_wide(out))
      return cudaErrorInvalidValue;
    return with_element(by.type, [&](auto* e) {
      using Rounded = std::remove_pointer_t<decltype(e)>;
      return to([&](auto* data) {
        using Out = std::remove_pointer_t<decltype(data)>;
        const auto kernel = by.k <= row_piece       ? rows_kernel<float, Rounded, Out, 1, true>
                            : by.k <= 2 * row_piece ? rows_kernel<float, Rounded, Out, 2, true>
                                                    : rows_kernel<float, Rounded, Out, 4, true>;
        return launch(on, kernel, x.rows, row_threads, 0, *call.before,
                      static_cast<const float*>(x.data), x.stride, by.k, by.kept_as, reordered,
                      data, out.stride, row_scales);
      });
    });
  }
  return with_element(x.type, [&](auto* e) {
    using In = std::remove_pointer_t<decltype(e)>;
    const auto* from = static_cast<const In*>(x.data);
    return to([&](auto* data) {
      using Out = std::remove_pointer_t<decltype(data)>;
      if (by.k % row_width != 0 || by.k > 4 * row_piece || !is_wide(x) || !is_wide(out))
        return launch(on, any_rows_kernel<In, Out>, x.rows, row_threads, 0, from, x.stride, by.k,
                      by.kept_as, reordered, data, out.stride, row_scales);
      const auto kernel = by.k <= row_piece       ? rows_kernel<In, In, Out, 1, false>
                          : by.k <= 2 * row_piece ? rows_kernel<In, In, Out, 2, false>
                                                  : rows_kernel<In, In, Out, 4, false>;
      return launch(on, kernel, x.rows, row_threads, 0, norm{}, from, x.stride, by.k, by.kept_as,
                    reordered, data, out.stride, row_scales);
    });
  });
}

cudaError_t dequantize_rows(const launcher& on, const weight& by, bool gated, uint32_t first,
                            const matrix& out) {
  const auto span = static_cast<uint32_t>(fp4_scale_span(by.k));
  const dim3 grid{ceil_div(by.k, threads * 8), most_rows(out.rows)};
  const auto run = [&](auto* to) {
    using Out = std::remove_pointer_t<decltype(to)>;
    return launch(on, dequantize_kernel<Out>, grid, threads, 0, by, span, gated, is_reordered(by),
                  first, out.rows, to);
  };
  return out.type == element::fp32 ? run(static_cast<float*>(out.data))
                                   : run(static_cast<fp16*>(out.data));
}

cudaError_t finish_sums(const launcher& on, const linear_call& call, uint32_t first,
                        const matrix& sums, const float* row_scales) {
  const uint32_t count = call.gated ? sums.columns / 2 : sums.columns;
  const dim3 grid{ceil_div(count, threads), most_rows(call.x.rows)};
  return with_element(call.y.type, [&](auto* e) {
    using Y = std::remove_pointer_t<decltype(e)>;
    return launch(on, finish_kernel<Y>, grid, threads, 0, call.by, call.function, call.gated,
                  call.accumulate, first, count, static_cast<const float*>(sums.data), sums.stride,
                  row_scales, static_cast<Y*>(call.y.data), call.y.stride, call.x.rows);
  });
}

} // namespace troupe::models::cuda
