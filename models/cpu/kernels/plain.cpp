#include <cmath>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cpu/kernels/quantize_impl.hpp"
#include "troupe/models/cpu/kernels/table.hpp"

/// The kernels spelled out, for processors without AVX2 and as what the others are compared with.
namespace troupe::models::cpu {
namespace {

constexpr size_t panel_width = 32;

float widened(float x) {
  return x;
}

float widened(uint16_t x) {
  return bf16_to_fp32(x);
}

/// @param weight `weight(k, column)` of a panel.
template <class Weight>
void multiply_by(size_t rows, const tile& t, size_t steps, Weight&& weight) {
  const auto* x = static_cast<const float*>(t.x);
  for (size_t r = 0; r < rows; ++r) {
    float* sums = t.sums + r * panel_width;
    for (size_t c = 0; !t.resume && c < panel_width; ++c)
      sums[c] = 0;
    for (size_t k = 0; k < steps; ++k)
      for (size_t c = 0; c < panel_width; ++c)
        sums[c] += x[k * rows + r] * weight(k, c);
  }
}

void multiply_fp32(size_t rows, const tile& t) {
  const auto* w = static_cast<const float*>(t.w);
  multiply_by(rows, t, t.steps, [w](size_t k, size_t c) { return w[k * panel_width + c]; });
}

void multiply_bf16(size_t rows, const tile& t) {
  const auto* w = static_cast<const uint16_t*>(t.w);
  multiply_by(rows, t, 2 * t.steps, [w](size_t k, size_t c) {
    return bf16_to_fp32(w[(k / 2 * panel_width + c) * 2 + k % 2]);
  });
}

void multiply_int8(size_t rows, const tile& t) {
  const auto* w = static_cast<const int8_t*>(t.w);
  multiply_by(rows, t, t.steps,
              [w](size_t k, size_t c) { return static_cast<float>(w[k * panel_width + c]); });
}

void multiply_fp4(size_t rows, const tile& t) {
  const auto* x = static_cast<const float*>(t.x);
  const auto* w = static_cast<const std::byte*>(t.w);
  for (size_t step = 0; step < t.steps; ++step) {
    const auto* scales = reinterpret_cast<const float*>(w);
    const auto* codes = w + panel_width * sizeof(float);
    for (size_t r = 0; r < rows; ++r) {
      float* sums = t.sums + r * panel_width;
      for (size_t c = 0; c < panel_width; ++c) {
        float sum = 0;
        for (size_t k = 0; k < t.span; ++k) {
          const auto pair = static_cast<unsigned>(codes[k / 2 * panel_width + c]);
          const auto code = k % 2 == 0 ? pair & 15U : pair >> 4;
          sum += x[(step * t.span + k) * rows + r] * fp4_values[code];
        }
        sums[c] = sum * scales[c] + (t.resume || step > 0 ? sums[c] : 0);
      }
    }
    w = codes + (t.span + 1) / 2 * panel_width;
  }
}

void finish(const tile_finish& f) {
  for (size_t r = 0; r < f.rows; ++r) {
    for (size_t c = 0; c < f.columns; ++c) {
      float x = f.sums[r * panel_width + c];
      if (f.bias)
        x += f.bias[c];
      if (f.residual)
        x += f.residual[r * f.residual_stride + c];
      f.out[r * f.out_stride + c] = x;
    }
  }
}

void pack(const float* x, size_t stride, size_t rows, size_t k, float* out) {
  for (size_t i = 0; i < k; ++i)
    for (size_t r = 0; r < rows; ++r)
      out[i * rows + r] = x[r * stride + i];
}

/// One query over positions [from, position], tile by tile.
template <class Element>
void attend_query(const attention_unit& u, const float* q, uint32_t position, float* out) {
  const uint32_t from = u.window == 0 || position + 1 <= u.window ? 0 : position + 1 - u.window;
  float* scores = u.scratch;
  float* sums = scores + attention_tile;
  for (size_t d = 0; d < u.head_size; ++d)
    sums[d] = 0;
  float largest = -INFINITY;
  float total = 0;
  for (uint32_t start = from / attention_tile * attention_tile; start <= position;
       start += attention_tile) {
    const uint32_t first = start < from ? from : start;
    const uint32_t last =
        start + attention_tile - 1 < position ? start + attention_tile - 1 : position;
    float top = largest;
    for (uint32_t p = first; p <= last; ++p) {
      const auto* keys =
          reinterpret_cast<const Element*>(u.keys + u.blocks[p / u.block_tokens] * u.block_stride) +
          p % u.block_tokens;
      float score = 0;
      for (size_t d = 0; d < u.head_size; ++d)
        score += q[d] * u.scale * widened(keys[d * u.block_tokens]);
      scores[p - start] = score;
      top = score > top ? score : top;
    }
    const float correction = std::exp(largest - top);
    largest = top;
    total *= correction;
    for (size_t d = 0; d < u.head_size; ++d)
      sums[d] *= correction;
    for (uint32_t p = first; p <= last; ++p) {
      const float weight = std::exp(scores[p - start] - top);
      total += weight;
      const auto* values = reinterpret_cast<const Element*>(
                               u.values + u.blocks[p / u.block_tokens] * u.block_stride) +
                           p % u.block_tokens * u.head_size;
      for (size_t d = 0; d < u.head_size; ++d)
        sums[d] += weight * widened(values[d]);
    }
  }
  for (size_t d = 0; d < u.head_size; ++d)
    out[d] = sums[d] / total;
}

void attend(const attention_unit& u) {
  for (uint32_t t = 0; t < u.tokens; ++t) {
    for (uint32_t h = 0; h < u.group; ++h) {
      const float* q = u.q + t * u.q_stride + h * u.head_size;
      float* out = u.out + t * u.out_stride + h * u.head_size;
      if (u.bf16)
        attend_query<uint16_t>(u, q, u.position + t, out);
      else
        attend_query<float>(u, q, u.position + t, out);
    }
  }
}

void rms_norm(const float* x, size_t width, const float* weight, float epsilon, float* out) {
  double squares = 0;
  for (size_t i = 0; i < width; ++i)
    squares += double{x[i]} * x[i];
  const auto factor =
      static_cast<float>(1 / std::sqrt(squares / static_cast<double>(width) + epsilon));
  for (size_t i = 0; i < width; ++i)
    out[i] = x[i] * factor * weight[i];
}

void layer_norm(const float* x, size_t width, const float* weight, const float* bias, float epsilon,
                float* out) {
  const auto count = static_cast<double>(width);
  double mean = 0;
  for (size_t i = 0; i < width; ++i)
    mean += x[i];
  mean /= count;
  double squares = 0;
  for (size_t i = 0; i < width; ++i)
    squares += (x[i] - mean) * (x[i] - mean);
  const double factor = 1 / std::sqrt(squares / count + epsilon);
  for (size_t i = 0; i < width; ++i)
    out[i] = static_cast<float>((x[i] - mean) * factor) * (weight ? weight[i] : 1) +
             (bias ? bias[i] : 0);
}

void add(const float* a, const float* b, size_t width, float* out) {
  for (size_t i = 0; i < width; ++i)
    out[i] = a[i] + b[i];
}

void silu(const float* x, const float* up, size_t width, float* out) {
  for (size_t i = 0; i < width; ++i)
    out[i] = x[i] / (1 + std::exp(-x[i])) * (up ? up[i] : 1);
}

void gelu_tanh(const float* x, const float* up, size_t width, float* out) {
  for (size_t i = 0; i < width; ++i) {
    const float u = 0.79788456080286535588f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
    out[i] = 0.5f * x[i] * (1 + std::tanh(u)) * (up ? up[i] : 1);
  }
}

void narrow(const float* x, size_t width, uint16_t* out) {
  for (size_t i = 0; i < width; ++i)
    out[i] = fp32_to_bf16(x[i]);
}

void rotate(const rotation& r) {
  for (size_t h = 0; h < r.heads; ++h) {
    float* low = r.x + h * r.head_size;
    float* high = low + r.half;
    for (size_t i = 0; i < r.half; ++i) {
      const float a = low[i];
      const float b = high[i];
      low[i] = a * r.cos[i] - b * r.sin[i];
      high[i] = b * r.cos[i] + a * r.sin[i];
    }
  }
}

} // namespace

const kernel_table plain_kernels{
    .level = isa::plain,
    .tile_rows = 4,
    .pairs_of_x = false,
    .multiply_fp32 = multiply_fp32,
    .multiply_bf16 = multiply_bf16,
    .multiply_int8 = multiply_int8,
    .multiply_fp4 = multiply_fp4,
    .quantize_row = quantize_row,
    .finish = finish,
    .pack_fp32 = pack,
    .pack_bf16 = nullptr,
    .attend = attend,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .add = add,
    .silu = silu,
    .gelu_tanh = gelu_tanh,
    .narrow = narrow,
    .rotate = rotate,
};

} // namespace troupe::models::cpu
