#include "troupe/models/cuda/kernels/small_batch.hpp"

#include "troupe/models/cuda/kernels/device_code.hpp"
#include "troupe/models/cuda/kernels/quantize.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int warps = 8;
constexpr int tile_rows = 8; // Weight rows per tensor core product.
constexpr int piece = 128;   // Input features that a warp takes at a time.
constexpr int reduced = 4;   // Tiles that are summed over the warps at once.

/// A tensor core product of 8, or pairs of 8, tokens and 16 input features of a tile.
template <class E, int Halves>
__device__ void accumulate(float (&sums)[Halves][2], const uint32_t (&low)[Halves],
                           const uint32_t (&high)[Halves], uint32_t b0, uint32_t b1) {
  if constexpr (Halves == 1) {
    multiply_accumulate<E>(sums[0], low[0], high[0], b0, b1);
  } else {
#pragma unroll
    for (int h = 0; h < Halves; h += 2) {
      float c[4] = {sums[h][0], sums[h][1], sums[h + 1][0], sums[h + 1][1]};
      multiply_accumulate<E>(c, low[h], low[h + 1], high[h], high[h + 1], b0, b1);
      sums[h][0] = c[0], sums[h][1] = c[1];
      sums[h + 1][0] = c[2], sums[h + 1][1] = c[3];
    }
  }
}

/// The fragments of x of one thread: for every piece four times eight features.
template <int Halves>
struct x_fragments {
  uint4 part[Halves][4];

  /// Features 4 i to 4 i + 3 of part j: two registers of each half.
  template <class E>
  __device__ void multiply(float (&sums)[Halves][2], int j, int i, uint32_t b0, uint32_t b1) const {
    uint32_t low[Halves], high[Halves];
#pragma unroll
    for (int h = 0; h < Halves; ++h) {
      low[h] = i == 0 ? part[h][j].x : part[h][j].z;
      high[h] = i == 0 ? part[h][j].y : part[h][j].w;
    }
    accumulate<E, Halves>(sums, low, high, b0, b1);
  }
};

// How weights lie in memory, and how a thread multiplies what it takes of a stage, a tile's piece
// in shared memory: thread (g, t) has row g, and features from `feature(t, j)` on in part j.

/// bf16 or fp16.
template <class E>
struct dense {
  static constexpr bool quantized = false;
  using x_type = E;
  static constexpr int row_chunks = 16; ///< Of 16 bytes.
  static constexpr int chunk_features = 8;
  static constexpr int stages = 6; ///< Of a warp, under way.
  static constexpr int scale_bytes = 0;
  __device__ static uint32_t place(uint32_t row, uint32_t chunk) {
    return chunk ^ ((row & 1) << 2);
  }
  /// Sixteen bytes at a time, of x and of the weight alike, so that the order of features within a
  /// product differs from memory's, but for both the same.
  __device__ static uint32_t feature(uint32_t t, int j) { return (t + 4 * j) * 8; }
  template <int Halves>
  __device__ static void multiply(float (&sums)[Halves][2], const x_fragments<Halves>& x,
                                  const unsigned char* stage, uint32_t g, uint32_t t) {
    const auto* data = reinterpret_cast<const uint4*>(stage);
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      v[j] = data[g * row_chunks + place(g, t + 4 * j)];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x.template multiply<E>(sums, j, 0, v[j].x, v[j].y);
      x.template multiply<E>(sums, j, 1, v[j].z, v[j].w);
    }
  }
};

/// Bytes of code + 128.
struct int8_codes_of_rows {
  static constexpr bool quantized = true;
  using x_type = fp16;
  static constexpr int row_chunks = 8;
  static constexpr int chunk_features = 16;
  static constexpr int stages = 8;
  static constexpr int scale_bytes = 0;
  __device__ static uint32_t place(uint32_t row, uint32_t chunk) {
    return chunk ^ ((row & 1) << 2);
  }
  __device__ static uint32_t feature(uint32_t t, int j) {
    return 64 * (j / 2) + 16 * t + 8 * (j % 2);
  }
  template <int Halves>
  __device__ static void multiply(float (&sums)[Halves][2], const x_fragments<Halves>& x,
                                  const unsigned char* stage, uint32_t g, uint32_t t) {
    const auto* data = reinterpret_cast<const uint4*>(stage);
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const uint4 v = data[g * row_chunks + place(g, t + 4 * block)];
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        // Beside 0x64 a byte is 1024 and more in fp16; 1152 less are the code.
        const uint32_t b0 = shifted((words[i] & 0x00ff00ffu) | 0x64006400u);
        const uint32_t b1 = shifted(((words[i] >> 8) & 0x00ff00ffu) | 0x64006400u);
        x.template multiply<fp16>(sums, 2 * block + i / 2, i % 2, b0, b1);
      }
    }
  }
  __device__ static uint32_t shifted(uint32_t pair) {
    const __half2 less = __float2half2_rn(1152.0f);
    const __half2 codes = __hsub2(*reinterpret_cast<const __half2*>(&pair), less);
    return *reinterpret_cast<const uint32_t*>(&codes);
  }
};

/// Half bytes, and a scale for each 64 of them behind the codes of a stage, [2][8].
struct fp4_codes_of_rows {
  static constexpr bool quantized = true;
  using x_type = fp16;
  static constexpr int row_chunks = 4;
  static constexpr int chunk_features = 32;
  static constexpr int stages = 12;
  static constexpr int scale_bytes = 2 * tile_rows * sizeof(float);
  __device__ static uint32_t place(uint32_t row, uint32_t chunk) { return chunk ^ (row & 2); }
  __device__ static uint32_t feature(uint32_t t, int j) {
    return int8_codes_of_rows::feature(t, j);
  }
  template <int Halves>
  __device__ static void multiply(float (&sums)[Halves][2], const x_fragments<Halves>& x,
                                  const unsigned char* stage, uint32_t g, uint32_t t) {
    const auto* scales =
        reinterpret_cast<const float*>(stage + tile_rows * row_chunks * sizeof(uint4));
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const auto* data = reinterpret_cast<const uint2*>(stage) +
                         (g * row_chunks + place(g, 2 * block + t / 2)) * 2 + t % 2;
      float of_block[Halves][2] = {};
      const uint32_t words[2] = {data->x, data->y};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        // Upper bytes of 0, 1/16, 8, 12, 4, 6, 2 and 3 in fp16; the lower ones are zero.
        const uint32_t sizes = words[i] & 0x77777777u;
        const uint32_t low = __byte_perm(0x4a482c00u, 0x42404644u, sizes);
        const uint32_t high = __byte_perm(0x4a482c00u, 0x42404644u, sizes >> 16);
        uint32_t pairs[4];
#pragma unroll
        for (int p = 0; p < 4; ++p) {
          // Codes p and p + 4; bytes 0 and 2 are anything.
          const uint32_t value = __byte_perm(low, high, (p << 4) | ((4 + p) << 12)) & 0xff00ff00u;
          pairs[p] = value | ((words[i] << (12 - 4 * p)) & 0x80008000u);
        }
        x.template multiply<fp16>(of_block, 2 * block + i, 0, pairs[0], pairs[1]);
        x.template multiply<fp16>(of_block, 2 * block + i, 1, pairs[2], pairs[3]);
      }
      const float2 scale = *reinterpret_cast<const float2*>(scales + block * tile_rows + 2 * t);
#pragma unroll
      for (int h = 0; h < Halves; ++h) {
        sums[h][0] += of_block[h][0] * scale.x;
        sums[h][1] += of_block[h][1] * scale.y;
      }
    }
  }
};

template <class W>
constexpr int code_bytes = tile_rows* W::row_chunks * 16;
template <class W>
constexpr int stage_bytes = code_bytes<W> + W::scale_bytes;

struct arguments {
  const void* x;
  size_t x_stride;
  const void* w;
  const float* bias;
  const float* scales;     ///< Of a quantized weight, and then
  const float* row_scales; ///< [tokens]
  void* y;
  size_t y_stride;
  element y_type;
  uint32_t tokens, n, k;
  uint32_t most_tiles; ///< That a warp has sums of at once.
  activation function;
  quantization kept_as;
  bool gated, accumulate;
};

__device__ void store(const arguments& a, size_t place, float value) {
  switch (a.y_type) {
  case element::bf16:
    static_cast<bf16*>(a.y)[place] = narrow<bf16>(value);
    return;
  case element::fp16:
    static_cast<fp16*>(a.y)[place] = narrow<fp16>(value);
    return;
  case element::fp32:
    break;
  }
  float* y = static_cast<float*>(a.y) + place;
  *y = a.accumulate ? *y + value : value;
}

/// Most tiles whose sums a warp keeps in registers at once.
template <int Tokens>
constexpr int group_tiles = Tokens == 8    ? 12
                            : Tokens == 16 ? 8
                                           : 4;

/// Walks the pieces of a warp's share: groups of tiles, then input features, then tiles.
struct walk {
  uint32_t first, count, groups; // Units (tiles, or pairs of gate and what it gates).
  uint32_t unit_tiles, pieces;
  uint32_t group = 0, at = 0, tile = 0, tiles = 0, group_first = 0;

  __device__ walk(uint32_t first_, uint32_t last, uint32_t most, uint32_t unit_tiles_,
                  uint32_t pieces_, uint32_t warp)
      : first(first_), count(last - first_), groups((count * unit_tiles_ + most - 1) / most),
        unit_tiles(unit_tiles_), pieces(pieces_) {
    at = warp;
    enter();
    // A warp without pieces has nothing to walk.
    if (warp >= pieces)
      group = groups;
  }
  __device__ void enter() {
    if (group >= groups)
      return;
    const uint32_t begin = count * group / groups, end = count * (group + 1) / groups;
    group_first = (first + begin) * unit_tiles;
    tiles = (end - begin) * unit_tiles;
  }
  __device__ bool done() const { return group >= groups; }
  __device__ void next(uint32_t warp) {
    if (++tile < tiles)
      return;
    tile = 0;
    if ((at += warps) < pieces)
      return;
    at = warp;
    ++group;
    enter();
  }
};

template <class W, int Tokens>
__global__ void __launch_bounds__(warps * 32, Tokens <= 16 ? 2 : 1)
    small_batch_kernel(const arguments a) {
  using E = typename W::x_type;
  constexpr int halves = Tokens / 8;
  constexpr int group_size = group_tiles<Tokens>;
  constexpr int stages = W::stages;
  constexpr int stage_size = stage_bytes<W>;
  extern __shared__ __align__(128) unsigned char shared[];
  float* partial = reinterpret_cast<float*>(shared + warps * stages * stage_size);

  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t g = lane / 4, t = lane % 4;
  const auto* w = static_cast<const unsigned char*>(a.w);
  const size_t row_bytes = size_t{a.k} / W::chunk_features * 16;
  const uint32_t outputs = a.gated ? a.n / 2 : a.n;
  const uint32_t units = (outputs + tile_rows - 1) / tile_rows;
  const uint32_t first = static_cast<uint64_t>(units) * blockIdx.x / gridDim.x;
  const uint32_t last = static_cast<uint64_t>(units) * (blockIdx.x + 1) / gridDim.x;
  const uint32_t pieces = (a.k + piece - 1) / piece;
  const uint32_t unit_tiles = a.gated ? 2 : 1;

  release_next();

  const uint32_t ring = shared_address(shared) + warp * stages * stage_size;
  walk ahead(first, last, a.most_tiles, unit_tiles, pieces, warp);
  uint32_t fill = 0; // Stage that is filled next.
  constexpr int rows_at_once = 32 / W::row_chunks;
  const uint32_t copy_row = lane / W::row_chunks, copy_chunk = lane % W::row_chunks;
  auto fetch = [&] {
    if (!ahead.done()) {
      const uint32_t tile = ahead.group_first + ahead.tile;
      const uint32_t unit = a.gated ? tile / 2 : tile;
      const uint32_t column = ahead.at * piece + copy_chunk * W::chunk_features;
      const uint32_t inside = unit * tile_rows + copy_row;
      const uint32_t partner = a.gated && tile % 2 == 1 ? outputs : 0;
      const unsigned char* from =
          w + (inside + partner) * row_bytes + column / W::chunk_features * 16;
#pragma unroll
      for (int j = 0; j < tile_rows / rows_at_once; ++j) {
        const bool valid = column < a.k && inside + rows_at_once * j < outputs;
        const uint32_t r = rows_at_once * j + copy_row;
        copy16(ring + fill * stage_size + (r * W::row_chunks + W::place(r, copy_chunk)) * 16,
               valid ? from + rows_at_once * j * row_bytes : w, valid);
      }
      if constexpr (W::scale_bytes > 0) {
        if (lane < 4) {
          const uint32_t block = ahead.at * (piece / fp4_block) + lane / 2;
          const bool valid = block * fp4_block < a.k;
          copy16(ring + fill * stage_size + code_bytes<W> + lane * 16,
                 valid ? a.scales + size_t{block} * a.n + unit * tile_rows + partner + lane % 2 * 4
                       : a.scales,
                 valid);
        }
      }
      ahead.next(warp);
    }
    commit_copies();
    fill = fill + 1 == stages ? 0 : fill + 1;
  };
  // Weights do not depend on what runs before us.
#pragma unroll
  for (int s = 0; s < stages - 1; ++s)
    fetch();

  wait_for_previous();

  walk here(first, last, a.most_tiles, unit_tiles, pieces, warp);
  const uint32_t groups = here.groups;
  uint32_t stage = 0;
  for (uint32_t group = 0; group < groups; ++group) {
    const uint32_t begin = here.count * group / groups, end = here.count * (group + 1) / groups;
    const int tiles = static_cast<int>((end - begin) * unit_tiles);
    float sums[group_size][halves][2];
#pragma unroll
    for (int i = 0; i < group_size; ++i)
#pragma unroll
      for (int h = 0; h < halves; ++h)
        sums[i][h][0] = sums[i][h][1] = 0;

    for (uint32_t at = warp; at < pieces; at += warps) {
      x_fragments<halves> x;
#pragma unroll
      for (int h = 0; h < halves; ++h) {
        const uint32_t token = h * 8 + g;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const uint32_t column = at * piece + W::feature(t, j);
          x.part[h][j] = {0, 0, 0, 0};
          if (token >= a.tokens || column >= a.k)
            continue;
          x.part[h][j] = *reinterpret_cast<const uint4*>(static_cast<const E*>(a.x) +
                                                         token * a.x_stride + column);
        }
      }
#pragma unroll
      for (int i = 0; i < group_size; ++i) {
        if (i >= tiles)
          break;
        wait_copies<stages - 2>();
        __syncwarp(); // Everyone's copies are there, and everyone has read the stage before.
        fetch();
        W::multiply(sums[i], x, shared + (warp * stages + stage) * stage_size, g, t);
        stage = stage + 1 == stages ? 0 : stage + 1;
      }
    }

    const uint32_t group_first = (first + begin) * unit_tiles;
#pragma unroll
    for (int i0 = 0; i0 < group_size; i0 += reduced) {
      if (i0 >= tiles)
        break;
      __syncthreads();
#pragma unroll
      for (int i = 0; i < reduced; ++i)
#pragma unroll
        for (int h = 0; h < halves; ++h)
          *reinterpret_cast<float2*>(partial +
                                     ((warp * reduced + i) * Tokens + h * 8 + g) * tile_rows +
                                     2 * t) = {sums[i0 + i][h][0], sums[i0 + i][h][1]};
      __syncthreads();
      const int count = min(reduced, tiles - i0);
      const int outs = (a.gated ? count / 2 : count) * Tokens * tile_rows;
      for (int o = threadIdx.x; o < outs; o += warps * 32) {
        const int row = o % tile_rows, token = o / tile_rows % Tokens,
                  unit = o / (tile_rows * Tokens);
        if (token >= static_cast<int>(a.tokens))
          continue;
        auto total = [&](int i) {
          float s = 0;
#pragma unroll
          for (int from = 0; from < warps; ++from)
            s += partial[((from * reduced + i) * Tokens + token) * tile_rows + row];
          return s;
        };
        const uint32_t tile = group_first + i0 + unit * unit_tiles;
        const uint32_t column = tile / unit_tiles * tile_rows + row;
        if (column >= outputs)
          continue;
        auto meant = [&](float sum, uint32_t of) {
          if (a.kept_as == quantization::int8)
            return sum * a.row_scales[token] * a.scales[of];
          // The products were made with twelve times fp4's values.
          return a.kept_as == quantization::fp4 ? sum * a.row_scales[token] * (1.0f / 12) : sum;
        };
        float value = meant(total(unit * static_cast<int>(unit_tiles)), column);
        if (a.bias != nullptr)
          value += a.bias[column];
        if (a.function != activation::none)
          value = activated(a.function, value);
        if (a.gated) {
          float up = meant(total(unit * 2 + 1), outputs + column);
          if (a.bias != nullptr)
            up += a.bias[outputs + column];
          value *= up;
        }
        store(a, token * a.y_stride + column, value);
      }
    }
  }
}

template <class W, int Tokens>
cudaError_t run_small(const launcher& on, arguments a) {
  const uint32_t units = ceil_div(a.gated ? a.n / 2 : a.n, tile_rows);
  // Codes become numbers in many instructions: two blocks share a multiprocessor.
  const int blocks_at_once = a.kept_as == quantization::none || Tokens > 16 ? 1 : 2;
  const uint32_t blocks =
      std::min(units, static_cast<uint32_t>(blocks_at_once * on.device.multiprocessors));
  constexpr size_t shared =
      warps * W::stages * stage_bytes<W> + warps * reduced * tile_rows * Tokens * sizeof(float);
  static_assert(shared <= small_batch_shared);
  // Four tiles at a time read memory in longer stretches; more of them fetch x less often, which
  // pays as soon as x is of some size. The sums are the same.
  a.most_tiles = a.tokens <= 2 ? 4 : group_tiles<Tokens>;
  return launch(on, small_batch_kernel<W, Tokens>, blocks, warps * 32, shared, a);
}

template <class W>
cudaError_t run_small(const launcher& on, const arguments& a) {
  if (a.tokens <= 8)
    return run_small<W, 8>(on, a);
  if constexpr (W::quantized)
    if (a.tokens > 16)
      return run_small<W, 32>(on, a);
  return run_small<W, 16>(on, a);
}

// --- any shape ---

constexpr int any_warps = 4;
constexpr int any_tokens = 8;

/// A warp for each output feature and eight tokens.
template <class E>
__global__ void __launch_bounds__(any_warps * 32) any_kernel(const arguments a) {
  release_next();
  wait_for_previous();
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t outputs = a.gated ? a.n / 2 : a.n;
  const uint32_t column = blockIdx.x * any_warps + threadIdx.x / 32;
  const uint32_t first = blockIdx.y * any_tokens;
  if (column >= outputs)
    return;
  const E* x = static_cast<const E*>(a.x);
  const E* w = static_cast<const E*>(a.w);
  float value[any_tokens], up[any_tokens];
#pragma unroll
  for (int i = 0; i < any_tokens; ++i)
    value[i] = up[i] = 0;
  for (uint32_t c = lane; c < a.k; c += 32) {
    const float own = widen(w[static_cast<size_t>(column) * a.k + c]);
    const float other = a.gated ? widen(w[static_cast<size_t>(outputs + column) * a.k + c]) : 0.0f;
#pragma unroll
    for (int i = 0; i < any_tokens; ++i) {
      if (first + i >= a.tokens)
        continue;
      const float v = widen(x[(first + i) * a.x_stride + c]);
      value[i] += v * own;
      up[i] += v * other;
    }
  }
#pragma unroll
  for (int i = 0; i < any_tokens; ++i) {
    const float own = warp_sum(value[i]), other = warp_sum(up[i]);
    if (lane != 0 || first + i >= a.tokens)
      continue;
    float v = own + (a.bias != nullptr ? a.bias[column] : 0.0f);
    if (a.function != activation::none)
      v = activated(a.function, v);
    if (a.gated)
      v *= other + (a.bias != nullptr ? a.bias[outputs + column] : 0.0f);
    store(a, (first + i) * a.y_stride + column, v);
  }
}

arguments arguments_of(const linear_call& call) {
  return {.x = call.x.data,
          .x_stride = call.x.stride,
          .w = call.by.data,
          .bias = call.by.bias,
          .scales = call.by.scales,
          .row_scales = nullptr,
          .y = call.y.data,
          .y_stride = call.y.stride,
          .y_type = call.y.type,
          .tokens = call.x.rows,
          .n = call.by.n,
          .k = call.by.k,
          .most_tiles = 0,
          .function = call.function,
          .kept_as = call.by.kept_as,
          .gated = call.gated,
          .accumulate = call.accumulate};
}

} // namespace

bool fits_small(const device_traits& device, const linear_call& call) {
  if (device.shared_bytes < small_batch_shared || call.before != nullptr ||
      reinterpret_cast<uintptr_t>(call.by.data) % 16 != 0 || !is_wide(call.x))
    return false;
  if (call.by.kept_as != quantization::none)
    return is_reordered(call.by) && call.x.type == element::fp16 &&
           (call.gated ? call.by.n / 2 : call.by.n) % tile_rows == 0 &&
           reinterpret_cast<uintptr_t>(call.by.scales) % 16 == 0;
  return call.by.type != element::fp32 && call.x.type == call.by.type && call.by.k % 8 == 0 &&
         (call.y.type == element::fp32 || call.y.type == call.by.type);
}

cudaError_t multiply_small(const launcher& on, const linear_call& call, const float* row_scales) {
  if (!fits_small(on.device, call) || call.x.rows > small_batch_tokens_of(call.by))
    return cudaErrorInvalidValue;
  auto a = arguments_of(call);
  a.row_scales = row_scales;
  if (a.tokens == 0)
    return cudaSuccess;
  switch (call.by.kept_as) {
  case quantization::int8:
    return run_small<int8_codes_of_rows>(on, a);
  case quantization::fp4:
    return run_small<fp4_codes_of_rows>(on, a);
  case quantization::none:
    break;
  }
  return call.by.type == element::bf16 ? run_small<dense<bf16>>(on, a)
                                       : run_small<dense<fp16>>(on, a);
}

cudaError_t multiply_any(const launcher& on, const linear_call& call) {
  if (call.before != nullptr || call.x.type != call.by.type ||
      call.by.kept_as != quantization::none ||
      (call.y.type != element::fp32 && call.y.type != call.by.type))
    return cudaErrorInvalidValue;
  const auto a = arguments_of(call);
  const dim3 grid{ceil_div(call.gated ? call.by.n / 2 : call.by.n, any_warps),
                  ceil_div(a.tokens, any_tokens)};
  return with_element(call.by.type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    return launch(on, any_kernel<E>, grid, any_warps * 32, 0, a);
  });
}

} // namespace troupe::models::cuda
