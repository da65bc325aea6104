#include "troupe/models/cpu/packed_matrix.hpp"

#include <algorithm>
#include <cstring>

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

} // namespace

packed_matrix::packed_matrix(weight_arena& arena, size_t n, size_t k, dtype storage,
                             column_order order)
    : data_(static_cast<std::byte*>(arena.allocate(bytes_for(n, k, storage, order)))), n_(n), k_(k),
      storage_(storage), order_(order) {}

size_t packed_matrix::panels_for(size_t n, column_order order) {
  const auto panels = [](size_t columns) { return (columns + panel_columns - 1) / panel_columns; };
  return order == column_order::plain ? panels(n) : 2 * panels(n / 2);
}

size_t packed_matrix::bytes_for(size_t n, size_t k, dtype storage, column_order order) {
  const size_t columns = panels_for(n, order) * panel_columns;
  return storage == dtype::fp32 ? columns * k * 4 : columns * ((k + 1) / 2) * 4;
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

size_t packed_matrix::panel_bytes() const {
  return storage_ == dtype::fp32 ? k_ * panel_columns * 4 : (k_ + 1) / 2 * panel_columns * 4;
}

void packed_matrix::pack(context& where, const weight_source& source, size_t first) {
  if (source.n == 0)
    return;
  const size_t last = first + source.n;
  where.pool().parallel_for(panels(), [&](size_t panel_index, size_t) {
    const columns held = columns_of(panel_index);
    const size_t begin = std::max(first, held.first);
    const size_t end = std::min(last, held.first + held.count);
    if (begin >= end)
      return;
    const size_t column = begin - held.first;
    const size_t count = end - begin;
    std::byte* panel = data_ + panel_index * panel_bytes();
    float stretch[pack_steps][panel_columns];
    for (size_t k = 0; k < k_; k += pack_steps) {
      const size_t steps = std::min(pack_steps, k_ - k);
      read_stretch(source, begin - first, count, k, steps, stretch);
      if (storage_ == dtype::fp32) {
        auto* out = reinterpret_cast<float*>(panel) + k * panel_columns + column;
        for (size_t i = 0; i < steps; ++i)
          std::memcpy(out + i * panel_columns, stretch[i], count * sizeof(float));
        continue;
      }
      auto* out = reinterpret_cast<uint16_t*>(panel) + k * panel_columns + 2 * column;
      for (size_t i = 0; i < steps; ++i)
        for (size_t c = 0; c < count; ++c)
          out[i / 2 * 2 * panel_columns + 2 * c + i % 2] = fp32_to_bf16(stretch[i][c]);
    }
  });
}

void packed_matrix::unpack_row(size_t index, float* out) const {
  const auto [panel_index, column] = place_of(index);
  const std::byte* start = panel(panel_index);
  if (storage_ == dtype::fp32) {
    const auto* w = reinterpret_cast<const float*>(start) + column;
    for (size_t k = 0; k < k_; ++k)
      out[k] = w[k * panel_columns];
  } else {
    const auto* w = reinterpret_cast<const uint16_t*>(start) + 2 * column;
    for (size_t k = 0; k < k_; ++k)
      out[k] = bf16_to_fp32(w[k / 2 * 2 * panel_columns + k % 2]);
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
