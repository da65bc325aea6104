#include "troupe/models/cpu/elementwise.hpp"

#include <algorithm>
#include <cmath>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cpu/kernels/activation_row.hpp"
#include "troupe/models/cpu/kernels/table.hpp"

namespace troupe::models::cpu {

namespace {

/// Floats below which a second thread does not pay: it takes a microsecond to set one going.
constexpr size_t floats_per_part = 16 * 1024;

/// Calls f(row) for all rows, on several threads if that pays.
template <class F>
void for_rows(context& where, size_t rows, size_t width, F&& f) {
  const size_t wanted = rows * width / floats_per_part;
  const size_t parts = std::clamp<size_t>(
      wanted, 1, std::min(std::max<size_t>(rows, 1), 4 * size_t{where.pool().size()}));
  where.pool().parallel_for(parts, [&](size_t part, size_t) {
    const size_t end = rows * (part + 1) / parts;
    for (size_t row = rows * part / parts; row < end; ++row)
      f(row);
  });
}

/// The row to be normalised, after the addition if there is one; it is written where it is wanted.
const float* summed(const kernel_table& kernels, const norm_input& in, size_t row, float* out) {
  const float* x = in.x + row * in.x_stride;
  if (!in.add)
    return x;
  float* sum = in.sum ? in.sum + row * in.sum_stride : out;
  kernels.add(x, in.add + row * in.add_stride, in.width, sum);
  return sum;
}

void rotate_interleaved(const rotation& r) {
  for (size_t h = 0; h < r.heads; ++h) {
    float* x = r.x + h * r.head_size;
    for (size_t i = 0; i < r.half; ++i) {
      const float a = x[2 * i];
      const float b = x[2 * i + 1];
      x[2 * i] = a * r.cos[i] - b * r.sin[i];
      x[2 * i + 1] = b * r.cos[i] + a * r.sin[i];
    }
  }
}

void plain_activation(activation_kind kind, const float* x, const float* up, size_t width,
                      float* out) {
  for (size_t i = 0; i < width; ++i) {
    const float v = x[i];
    const float y = kind == activation_kind::relu
                        ? (v > 0 || std::isnan(v) ? v : 0)
                        : 0.5f * v * (1 + std::erf(v * 0.70710678118654752440f));
    out[i] = up ? y * up[i] : y;
  }
}

} // namespace

void activate_row(const kernel_table& kernels, activation_kind kind, const float* x,
                  const float* up, size_t width, float* out) {
  switch (kind) {
  case activation_kind::silu:
    kernels.silu(x, up, width, out);
    break;
  case activation_kind::gelu_tanh:
    kernels.gelu_tanh(x, up, width, out);
    break;
  default:
    plain_activation(kind, x, up, width, out);
  }
}

void rms_norm(context& where, const norm_input& in, const float* weight, float epsilon, float* out,
              size_t out_stride) {
  const kernel_table& kernels = where.kernels();
  for_rows(where, in.rows, in.width, [&](size_t row) {
    float* to = out + row * out_stride;
    kernels.rms_norm(summed(kernels, in, row, to), in.width, weight, epsilon, to);
  });
}

void layer_norm(context& where, const norm_input& in, const float* weight, const float* bias,
                float epsilon, float* out, size_t out_stride) {
  const kernel_table& kernels = where.kernels();
  for_rows(where, in.rows, in.width, [&](size_t row) {
    float* to = out + row * out_stride;
    kernels.layer_norm(summed(kernels, in, row, to), in.width, weight, bias, epsilon, to);
  });
}

void head_norm(context& where, const head_rows& in, const float* weight, float epsilon) {
  const kernel_table& kernels = where.kernels();
  for_rows(where, in.tokens, in.heads * in.head_size, [&](size_t token) {
    for (size_t h = 0; h < in.heads; ++h) {
      float* x = in.x + token * in.stride + h * in.head_size;
      kernels.rms_norm(x, in.head_size, weight, epsilon, x);
    }
  });
}

void rotary_table(std::span<const uint32_t> positions, std::span<const float> inv_freq,
                  float factor, float* cos, float* sin) {
  for (size_t t = 0; t < positions.size(); ++t) {
    for (size_t i = 0; i < inv_freq.size(); ++i) {
      const float angle = static_cast<float>(positions[t]) * inv_freq[i];
      cos[t * inv_freq.size() + i] = std::cos(angle) * factor;
      sin[t * inv_freq.size() + i] = std::sin(angle) * factor;
    }
  }
}

void rotary(context& where, const head_rows& in, const float* cos, const float* sin, size_t half,
            bool interleaved) {
  const kernel_table& kernels = where.kernels();
  for_rows(where, in.tokens, in.heads * in.head_size, [&](size_t token) {
    const rotation r{in.x + token * in.stride, in.heads,           in.head_size,
                     cos + token * half,       sin + token * half, half};
    if (interleaved)
      rotate_interleaved(r);
    else
      kernels.rotate(r);
  });
}

void gated_activation(context& where, activation_kind kind, const float* in, size_t in_stride,
                      size_t rows, size_t width, float* out, size_t out_stride) {
  for_rows(where, rows, 2 * width, [&](size_t row) {
    const float* gate = in + row * in_stride;
    activate_row(where.kernels(), kind, gate, gate + width, width, out + row * out_stride);
  });
}

void activate(context& where, activation_kind kind, const float* in, size_t in_stride, size_t rows,
              size_t width, float* out, size_t out_stride) {
  for_rows(where, rows, width, [&](size_t row) {
    activate_row(where.kernels(), kind, in + row * in_stride, nullptr, width,
                 out + row * out_stride);
  });
}

void add_bias(context& where, const float* in, size_t in_stride, const float* bias, size_t rows,
              size_t width, float* out, size_t out_stride) {
  for_rows(where, rows, width, [&](size_t row) {
    where.kernels().add(in + row * in_stride, bias, width, out + row * out_stride);
  });
}

void embed(context& where, const void* table, dtype type, std::span<const int32_t> ids,
           size_t width, float* out, size_t out_stride, const void* positions_table,
           dtype positions_type, std::span<const uint32_t> positions) {
  const auto row_of = [width](const void* base, dtype of, size_t index) {
    return static_cast<const std::byte*>(base) + index * width * (of == dtype::fp32 ? 4 : 2);
  };
  for_rows(where, ids.size(), width, [&](size_t row) {
    float* to = out + row * out_stride;
    widen(type, row_of(table, type, static_cast<size_t>(ids[row])), width, to);
    if (!positions_table)
      return;
    constexpr size_t stretch = 256;
    float learned[stretch];
    const auto* from = row_of(positions_table, positions_type, positions[row]);
    const size_t bytes = positions_type == dtype::fp32 ? 4 : 2;
    for (size_t i = 0; i < width; i += stretch) {
      const size_t count = std::min(stretch, width - i);
      widen(positions_type, from + i * bytes, count, learned);
      where.kernels().add(to + i, learned, count, to + i);
    }
  });
}

} // namespace troupe::models::cpu
