#include "troupe/models/cuda/kernels/small_batch.hpp"

#include "troupe/models/cuda/kernels/device_code.hpp"

namespace troupe::models::cuda {

namespace {

constexpr int warps = 8;
constexpr int tile_rows = 8; // Weight rows per tensor core product.
constexpr int piece = 128;   // Input features that a warp takes at a time.
constexpr int stages = 6;    // Pieces of a warp under way.
constexpr int reduced = 4;   // Tiles that are summed over the warps at once.
constexpr int stage_bytes = tile_rows * piece * 2;

struct arguments {
  const void* x;
  size_t x_stride;
  const void* w;
  const float* bias;
  void* y;
  size_t y_stride;
  uint32_t tokens, n, k;
  uint32_t most_tiles; ///< That a warp has sums of at once.
  activation function;
  bool gated, accumulate, narrow_y;
};

/// Most tiles whose sums a warp keeps in registers at once.
template <int Tokens>
constexpr int group_tiles = Tokens == 8 ? 12 : 8;

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

template <class E, int Tokens>
__global__ void __launch_bounds__(warps * 32, 2) small_batch_kernel(const arguments a) {
  constexpr int halves = Tokens / 8;
  constexpr int group_size = group_tiles<Tokens>;
  extern __shared__ __align__(128) unsigned char shared[];
  float* partial = reinterpret_cast<float*>(shared + warps * stages * stage_bytes);

  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t g = lane / 4, t = lane % 4;
  const E* w = static_cast<const E*>(a.w);
  const uint32_t outputs = a.gated ? a.n / 2 : a.n;
  const uint32_t units = (outputs + tile_rows - 1) / tile_rows;
  const uint32_t first = static_cast<uint64_t>(units) * blockIdx.x / gridDim.x;
  const uint32_t last = static_cast<uint64_t>(units) * (blockIdx.x + 1) / gridDim.x;
  const uint32_t pieces = (a.k + piece - 1) / piece;
  const uint32_t unit_tiles = a.gated ? 2 : 1;

  release_next();

  const uint32_t ring = shared_address(shared) + warp * stages * stage_bytes;
  walk ahead(first, last, a.most_tiles, unit_tiles, pieces, warp);
  uint32_t fill = 0; // Stage that is filled next.
  const uint32_t copy_row = lane / 16, copy_chunk = lane % 16;
  auto fetch = [&] {
    if (!ahead.done()) {
      const uint32_t tile = ahead.group_first + ahead.tile;
      const uint32_t unit = a.gated ? tile / 2 : tile;
      const uint32_t column = ahead.at * piece + copy_chunk * 8;
      const uint32_t inside = unit * tile_rows + copy_row;
      const size_t row = inside + (a.gated && tile % 2 == 1 ? outputs : 0);
      const E* from = w + row * a.k + column;
#pragma unroll
      for (int j = 0; j < tile_rows / 2; ++j) {
        const bool valid = column < a.k && inside + 2 * j < outputs;
        const uint32_t r = 2 * j + copy_row;
        const uint32_t place = copy_chunk ^ ((r & 1) << 2);
        copy16(ring + fill * stage_bytes + (r * 16 + place) * 16,
               valid ? from + static_cast<size_t>(2 * j) * a.k : w, valid);
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
      // The fragments of x: each thread takes 16 bytes at a time, of x and of the weight alike, so
      // that the order of features within a product differs from memory's, but for both the same.
      uint4 x[halves][4];
#pragma unroll
      for (int h = 0; h < halves; ++h) {
        const uint32_t token = h * 8 + g;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const uint32_t column = at * piece + (t + 4 * j) * 8;
          x[h][j] = {0, 0, 0, 0};
          if (token >= a.tokens || column >= a.k)
            continue;
          x[h][j] = *reinterpret_cast<const uint4*>(static_cast<const E*>(a.x) +
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
        const auto* data =
            reinterpret_cast<const uint4*>(shared + (warp * stages + stage) * stage_bytes);
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
          v[j] = data[g * 16 + ((t + 4 * j) ^ ((g & 1) << 2))];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if constexpr (halves == 1) {
            multiply_accumulate<E>(sums[i][0], x[0][j].x, x[0][j].y, v[j].x, v[j].y);
            multiply_accumulate<E>(sums[i][0], x[0][j].z, x[0][j].w, v[j].z, v[j].w);
          } else {
#pragma unroll
            for (int h = 0; h < halves; h += 2) {
              float c[4] = {sums[i][h][0], sums[i][h][1], sums[i][h + 1][0], sums[i][h + 1][1]};
              multiply_accumulate<E>(c, x[h][j].x, x[h + 1][j].x, x[h][j].y, x[h + 1][j].y, v[j].x,
                                     v[j].y);
              multiply_accumulate<E>(c, x[h][j].z, x[h + 1][j].z, x[h][j].w, x[h + 1][j].w, v[j].z,
                                     v[j].w);
              sums[i][h][0] = c[0], sums[i][h][1] = c[1];
              sums[i][h + 1][0] = c[2], sums[i][h + 1][1] = c[3];
            }
          }
        }
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
        float value = total(unit * static_cast<int>(unit_tiles));
        if (a.bias != nullptr)
          value += a.bias[column];
        if (a.function != activation::none)
          value = activated(a.function, value);
        if (a.gated) {
          float up = total(unit * 2 + 1);
          if (a.bias != nullptr)
            up += a.bias[outputs + column];
          value *= up;
        }
        const size_t place = token * a.y_stride + column;
        if (a.narrow_y) {
          static_cast<E*>(a.y)[place] = narrow<E>(value);
        } else {
          float* y = static_cast<float*>(a.y) + place;
          *y = a.accumulate ? *y + value : value;
        }
      }
    }
  }
}

template <class E, int Tokens>
cudaError_t run_small(const launcher& on, arguments a) {
  const uint32_t units = ceil_div(a.gated ? a.n / 2 : a.n, tile_rows);
  const uint32_t blocks = std::min(units, static_cast<uint32_t>(on.device.multiprocessors));
  constexpr size_t shared =
      warps * stages * stage_bytes + warps * reduced * tile_rows * Tokens * sizeof(float);
  static_assert(shared <= small_batch_shared);
  // Four tiles at a time read memory in longer stretches; more of them fetch x less often, which
  // pays as soon as x is of some size. The sums are the same.
  a.most_tiles = a.tokens <= 2 ? 4 : group_tiles<Tokens>;
  return launch(on, small_batch_kernel<E, Tokens>, blocks, warps * 32, shared, a);
}

template <class E>
cudaError_t run_small(const launcher& on, const arguments& a) {
  if (a.tokens <= 8)
    return run_small<E, 8>(on, a);
  return run_small<E, 16>(on, a);
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
    const size_t place = (first + i) * a.y_stride + column;
    if (a.narrow_y) {
      static_cast<E*>(a.y)[place] = narrow<E>(v);
    } else {
      float* y = static_cast<float*>(a.y) + place;
      *y = a.accumulate ? *y + v : v;
    }
  }
}

arguments arguments_of(const linear_call& call) {
  return {.x = call.x.data,
          .x_stride = call.x.stride,
          .w = call.by.data,
          .bias = call.by.bias,
          .y = call.y.data,
          .y_stride = call.y.stride,
          .tokens = call.x.rows,
          .n = call.by.n,
          .k = call.by.k,
          .most_tiles = 0,
          .function = call.function,
          .gated = call.gated,
          .accumulate = call.accumulate,
          .narrow_y = call.y.type != element::fp32};
}

} // namespace

bool fits_small(const device_traits& device, const linear_call& call) {
  return device.shared_bytes >= small_batch_shared && call.before == nullptr &&
         call.by.type != element::fp32 && call.x.type == call.by.type && call.by.k % 8 == 0 &&
         reinterpret_cast<uintptr_t>(call.by.data) % 16 == 0 && is_wide(call.x) &&
         (call.y.type == element::fp32 || call.y.type == call.by.type);
}

cudaError_t multiply_small(const launcher& on, const linear_call& call) {
  if (!fits_small(on.device, call) || call.x.rows > small_batch_tokens)
    return cudaErrorInvalidValue;
  const auto a = arguments_of(call);
  if (a.tokens == 0)
    return cudaSuccess;
  return call.by.type == element::bf16 ? run_small<bf16>(on, a) : run_small<fp16>(on, a);
}

cudaError_t multiply_any(const launcher& on, const linear_call& call) {
  if (call.before != nullptr || call.x.type != call.by.type ||
      (call.y.type != element::fp32 && call.y.type != call.by.type))
    return cudaErrorInvalidValue;
  const auto a = arguments_of(call);
  const dim3 grid{ceil_div(call.gated ? a.n / 2 : a.n, any_warps), ceil_div(a.tokens, any_tokens)};
  return with_element(call.by.type, [&](auto* e) {
    using E = std::remove_pointer_t<decltype(e)>;
    return launch(on, any_kernel<E>, grid, any_warps * 32, 0, a);
  });
}

} // namespace troupe::models::cuda
