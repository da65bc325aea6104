#include "troupe/models/cpu/packed_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "troupe/models/cpu/convert.hpp"

namespace troupe::models::cpu {

namespace {

constexpr size_t pack_steps =
    64; ///< k that are transposed at once: 32 x 64 floats fit the L1 cache.

size_t element_bytes(dtype type) {
  return type == dtype::fp32 ? 4 : 2;
}

const std::byte* element(const weight_source& source, size_t row, size_t column) {
  const size_t stride = source.stride ? source.stride : source.transposed ? source.n : source.k;
  return static_cast<const std::byte*>(source.data) +
         (row * stride + column) * element_bytes(source.type);
}

/// Weights of `columns` output columns from `column` on and `steps` k from `k` on, as [steps][32].
void read_stretch(const weight_source& source, size_t column, size_t columns, size_t k,
                  size_t steps, float (&out)[pack_steps][panel_columns]) {
  if (source.transposed) {
    for (size_t i = 0; i < steps; ++i)
      widen(source.type, element(source, k + i, column), columns, out[i]);
    return;
  }
  for (size_t c = 0; c < columns; ++c) {
    float row[pack_steps];
    widen(source.type, element(source, column + c, k), steps, row);
    for (size_t i = 0; i < steps; ++i)
      out[i][c] = row[i];
  }
}

/// Calls `use(k, steps, stretch)` with all of K, a stretch at a time.
template <class Use>
void for_each_stretch(const weight_source& source, size_t row, size_t count, Use&& use) {
  float stretch[pack_steps][panel_columns];
  for (size_t k = 0; k < source.k; k += pack_steps) {
    const size_t steps = std::min(pack_steps, source.k - k);
    read_stretch(source, row, count, k, steps, stretch);
    use(k, steps, stretch);
  }
}

/// Columns of a panel that a source fills.
struct panel_part {
  std::byte* panel;
  size_t column; ///< The first of them in the panel.
  size_t count;
  size_t row; ///< Of the source: its first output feature there.
};

void pack_fp32(const weight_source& source, const panel_part& part) {
  for_each_stretch(source, part.row, part.count, [&](size_t k, size_t steps, auto& stretch) {
    auto* out = reinterpret_cast<float*>(part.panel) + k * panel_columns + part.column;
    for (size_t i = 0; i < steps; ++i)
      std::memcpy(out + i * panel_columns, stretch[i], part.count * sizeof(float));
  });
}

void pack_bf16(const weight_source& source, const panel_part& part) {
  for_each_stretch(source, part.row, part.count, [&](size_t k, size_t steps, auto& stretch) {
    auto* out = reinterpret_cast<uint16_t*>(part.panel) + k * panel_columns + 2 * part.column;
    for (size_t i = 0; i < steps; ++i)
      for (size_t c = 0; c < part.count; ++c)
        out[i / 2 * 2 * panel_columns + 2 * c + i % 2] = fp32_to_bf16(stretch[i][c]);
  });
}

/// A NaN, or what infinite weights lead to, becomes some code or other.
int8_t code_of(float x) {
  return static_cast<int8_t>(std::lrint(std::fmin(std::fmax(x, -int8_codes), int8_codes)));
}

void pack_int8(const weight_source& source, const panel_part& part) {
  const auto rounded = [](float x) { return fp16_to_fp32(fp32_to_fp16(x)); };
  float largest[panel_columns] = {};
  for_each_stretch(source, part.row, part.count, [&](size_t, size_t steps, auto& stretch) {
    for (size_t i = 0; i < steps; ++i)
      for (size_t c = 0; c < part.count; ++c)
        largest[c] = std::max(largest[c], std::abs(rounded(stretch[i][c])));
  });
  auto* codes = reinterpret_cast<int8_t*>(part.panel) + part.column;
  auto* scales = reinterpret_cast<float*>(part.panel + source.k * panel_columns) + part.column;
  float factors[panel_columns];
  for (size_t c = 0; c < part.count; ++c) {
    scales[c] = largest[c] / int8_codes;
    factors[c] = int8_factor(largest[c]);
  }
  for_each_stretch(source, part.row, part.count, [&](size_t k, size_t steps, auto& stretch) {
    for (size_t i = 0; i < steps; ++i)
      for (size_t c = 0; c < part.count; ++c)
        codes[(k + i) * panel_columns + c] = code_of(rounded(stretch[i][c]) * factors[c]);
  });
}

/// The largest absolute value of every block of a source.
std::vector<float> fp4_block_scales(context& where, const weight_source& source) {
  std::vector<float> largest((source.n * source.k + fp4_block - 1) / fp4_block);
  // So many rows are whole blocks, whatever K is.
  constexpr size_t rows_per_part = fp4_block;
  const size_t parts = (source.n + rows_per_part - 1) / rows_per_part;
  where.pool().parallel_for(parts, [&](size_t part, size_t) {
    const size_t last = std::min((part + 1) * rows_per_part, source.n);
    for (size_t row = part * rows_per_part; row < last; row += panel_columns) {
      const size_t count = std::min(panel_columns, last - row);
      for_each_stretch(source, row, count, [&](size_t k, size_t steps, auto& stretch) {
        for (size_t c = 0; c < count; ++c)
          for (size_t i = 0; i < steps; ++i) {
            auto& scale = largest[((row + c) * source.k + k + i) / fp4_block];
            scale = std::max(scale, std::abs(stretch[i][c]));
          }
      });
    }
  });
  return largest;
}

void pack_fp4(const weight_source& source, const panel_part& part,
              const std::vector<float>& block_scales) {
  const size_t span = fp4_scale_span(source.k);
  for_each_stretch(source, part.row, part.count, [&](size_t k, size_t steps, auto& stretch) {
    for (size_t i = 0; i < steps; ++i) {
      std::byte* step = part.panel + (k + i) / span * fp4_step_bytes(source.k);
      const size_t in_step = (k + i) % span;
      auto* scales = reinterpret_cast<float*>(step) + part.column;
      auto* codes =
          step + panel_columns * sizeof(float) + in_step / 2 * panel_columns + part.column;
      for (size_t c = 0; c < part.count; ++c) {
        const float scale = block_scales[((part.row + c) * source.k + k + i) / fp4_block];
        const auto code = fp4_code(stretch[i][c] * (1.0f / scale));
        scales[c] = scale;
        // Even ones first: they also clear the other half.
        codes[c] =
            in_step % 2 == 0 ? std::byte{code} : codes[c] | static_cast<std::byte>(code << 4);
      }
    }
  });
}

} // namespace

packed_matrix::packed_matrix(weight_arena& arena, size_t n, size_t k, panel_format format,
                             column_order order)
    : data_(static_cast<std::byte*>(arena.allocate(bytes_for(n, k, format, order)))), n_(n), k_(k),
      format_(format), order_(order) {}

size_t packed_matrix::panels_for(size_t n, column_order order) {
  const auto panels = [](size_t columns) { return (columns + panel_columns - 1) / panel_columns; };
  return order == column_order::plain ? panels(n) : 2 * panels(n / 2);
}

size_t packed_matrix::panel_bytes(size_t k, panel_format format) {
  constexpr size_t scales = panel_columns * sizeof(float);
  switch (format) {
  case panel_format::fp32:
    return k * panel_columns * 4;
  case panel_format::bf16:
    return (k + 1) / 2 * panel_columns * 4;
  case panel_format::int8:
    // Whole cache lines, so that every panel begins with one.
    return (k + 1) / 2 * 2 * panel_columns + scales;
  case panel_format::fp4:
    return k / fp4_scale_span(k) * fp4_step_bytes(k);
  }
  return 0;
}

size_t packed_matrix::bytes_for(size_t n, size_t k, panel_format format, column_order order) {
  return panels_for(n, order) * panel_bytes(k, format);
}

packed_matrix::place packed_matrix::place_of(size_t index) const {
  if (order_ == column_order::plain)
    return {index / panel_columns, index % panel_columns};
  const size_t half = n_ / 2;
  const size_t in_half = index < half ? index : index - half;
  return {2 * (in_half / panel_columns) + (index < half ? 0 : 1), in_half % panel_columns};
}

packed_matrix::columns packed_matrix::columns_of(size_t panel) const {
  const bool plain = order_ == column_order::plain;
  const size_t width = plain ? n_ : n_ / 2;
  const size_t first = (plain ? panel : panel / 2) * panel_columns;
  return {first + (plain || panel % 2 == 0 ? 0 : width), std::min(panel_columns, width - first)};
}

void packed_matrix::pack(context& where, const weight_source& source, size_t first) {
  if (source.n == 0)
    return;
  std::vector<float> block_scales;
  if (format_ == panel_format::fp4)
    block_scales = fp4_block_scales(where, source);
  const size_t last = first + source.n;
  where.pool().parallel_for(panels(), [&](size_t panel_index, size_t) {
    const columns held = columns_of(panel_index);
    const size_t begin = std::max(first, held.first);
    const size_t end = std::min(last, held.first + held.count);
    if (begin >= end)
      return;
    const panel_part part{.panel = data_ + panel_index * panel_bytes(),
                          .column = begin - held.first,
                          .count = end - begin,
                          .row = begin - first};
    switch (format_) {
    case panel_format::fp32:
      return pack_fp32(source, part);
    case panel_format::bf16:
      return pack_bf16(source, part);
    case panel_format::int8:
      return pack_int8(source, part);
    case panel_format::fp4:
      return pack_fp4(source, part, block_scales);
    }
  });
}

void packed_matrix::unpack_row(size_t index, float* out) const {
  const auto [panel_index, column] = place_of(index);
  const std::byte* start = panel(panel_index);
  switch (format_) {
  case panel_format::fp32: {
    const auto* w = reinterpret_cast<const float*>(start) + column;
    for (size_t k = 0; k < k_; ++k)
      out[k] = w[k * panel_columns];
    break;
  }
  case panel_format::bf16: {
    const auto* w = reinterpret_cast<const uint16_t*>(start) + 2 * column;
    for (size_t k = 0; k < k_; ++k)
      out[k] = bf16_to_fp32(w[k / 2 * 2 * panel_columns + k % 2]);
    break;
  }
  case panel_format::int8: {
    const auto* codes = reinterpret_cast<const int8_t*>(start) + column;
    const float scale = column_scales(panel_index)[column];
    for (size_t k = 0; k < k_; ++k)
      out[k] = static_cast<float>(codes[k * panel_columns]) * scale;
    break;
  }
  case panel_format::fp4: {
    const size_t span = fp4_scale_span(k_);
    for (size_t k = 0; k < k_; ++k) {
      const std::byte* step = start + k / span * fp4_step_bytes(k_);
      const float scale = reinterpret_cast<const float*>(step)[column];
      const auto pair = std::to_integer<unsigned>(
          step[panel_columns * sizeof(float) + k % span / 2 * panel_columns + column]);
      out[k] = fp4_values[k % span % 2 == 0 ? pair & 15U : pair >> 4] * scale;
    }
    break;
  }
  }
}

void gather_rows(context& where, const packed_matrix& table, std::span<const int32_t> ids,
                 float* out, size_t out_stride) {
  constexpr size_t ids_per_part = 8;
  where.pool().parallel_for((ids.size() + ids_per_part - 1) / ids_per_part,
                            [&](size_t part, size_t) {
                              const size_t end = std::min(ids.size(), (part + 1) * ids_per_part);
                              for (size_t i = part * ids_per_part; i < end; ++i)
                                table.unpack_row(static_cast<size_t>(ids[i]), out + i * out_stride);
                            });
}

} // namespace troupe::models::cpu
