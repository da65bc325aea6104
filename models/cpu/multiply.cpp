#include <algorithm>

#include "troupe/models/cpu/kernels/activation_row.hpp"
#include "troupe/models/cpu/kernels/table.hpp"
#include "troupe/models/cpu/packed_matrix.hpp"

/// Cuts a product into tiles for the kernels. However it is cut, a tile goes on from the fp32 sums
/// of the stretch of k before, so the cuts cannot be seen in the result.
namespace troupe::models::cpu {

namespace {

/// Sizes are bytes of caches that nearly every x86-64 server has; halves leave room for the rest.
constexpr size_t l1_share = 24 << 10;
constexpr size_t l2_share = 512 << 10;
constexpr size_t few_rows = 64; ///< Up to here each stretch of weights is kept in L1 for all rows.
constexpr size_t stream_distance = 4096; ///< How far a single tile fetches ahead in its weights.

/// How the rows are cut: evenly, none above the kernel's limit.
struct row_cut {
  size_t rows = 0;
  size_t tiles = 0;
  size_t begin(size_t tile) const { return rows * tile / tiles; }
  size_t count(size_t tile) const { return begin(tile + 1) - begin(tile); }
};

/// A product with x packed for the kernels.
struct job {
  const kernel_table& kernels;
  const packed_matrix& weight;
  product p;
  row_cut cut;
  void (*multiply)(size_t rows, const tile& t) = nullptr;
  size_t steps = 0;        ///< k, pairs of k for bf16, spans for fp4.
  size_t step_bytes = 0;   ///< Of a panel per step.
  size_t x_step_bytes = 0; ///< Of one row of packed x per step.
  const std::byte* x = nullptr;
  const float* row_scales = nullptr; ///< [m]; int8 only.

  panel_format format() const { return weight.format(); }

  /// Panels that are finished together: a gate's and what it gates.
  size_t unit() const { return p.gate ? 2 : 1; }
};

/// Bytes of one row of packed x.
size_t packed_row_bytes(const job& j) {
  return j.steps * j.x_step_bytes;
}

void pack_tile(const job& j, size_t index, std::byte* packed) {
  const size_t begin = j.cut.begin(index);
  const size_t rows = j.cut.count(index);
  const size_t k = j.weight.k();
  const float* x = j.p.x + begin * j.p.x_stride;
  std::byte* to = packed + begin * packed_row_bytes(j);
  if (j.format() == panel_format::bf16 && j.kernels.pairs_of_x) {
    j.kernels.pack_bf16(x, j.p.x_stride, rows, k, reinterpret_cast<uint32_t*>(to));
    return;
  }
  auto* floats = reinterpret_cast<float*>(to);
  j.kernels.pack_fp32(x, j.p.x_stride, rows, k, floats);
  if (j.format() == panel_format::bf16 && k % 2 != 0)
    std::fill_n(floats + k * rows, rows, 0.0f);
}

constexpr size_t worth_sharing = 64 * 1024; ///< Numbers of x.

/// Puts rows of x into the form for int8 weights, at the end of the shared scratch.
/// @returns The new rows; `j.row_scales` become theirs.
const float* quantize_x(context& where, job& j, std::byte* to) {
  const size_t k = j.weight.k();
  auto* scales = reinterpret_cast<float*>(to);
  auto* rows = scales + j.p.m;
  const auto one = [&](size_t row, size_t) {
    scales[row] = j.kernels.quantize_row(j.p.x + row * j.p.x_stride, k, rows + row * k);
  };
  if (j.p.m * k < worth_sharing) {
    for (size_t row = 0; row < j.p.m; ++row)
      one(row, 0);
  } else {
    where.pool().parallel_for(j.p.m, one);
  }
  j.row_scales = scales;
  return rows;
}

/// Puts x into the order of the kernels, unless it is already.
void pack_x(context& where, job& j) {
  const size_t k = j.weight.k();
  const bool whole_steps =
      j.format() != panel_format::bf16 || (!j.kernels.pairs_of_x && k % 2 == 0);
  const bool as_it_is = j.p.m == 1 && whole_steps;
  const bool quantized = j.format() == panel_format::int8;
  const size_t packed_bytes = as_it_is ? 0 : j.p.m * packed_row_bytes(j);
  const size_t quantized_bytes = quantized ? j.p.m * (k + 1) * sizeof(float) : 0;
  std::byte* packed = nullptr;
  if (packed_bytes + quantized_bytes > 0)
    packed =
        static_cast<std::byte*>(where.shared_scratch().reserve(packed_bytes + quantized_bytes));
  if (quantized) {
    j.p.x = quantize_x(where, j, packed + packed_bytes);
    j.p.x_stride = k;
  }
  if (as_it_is) {
    j.x = reinterpret_cast<const std::byte*>(j.p.x);
    return;
  }
  if (j.p.m * k < worth_sharing) {
    for (size_t i = 0; i < j.cut.tiles; ++i)
      pack_tile(j, i, packed);
  } else {
    where.pool().parallel_for(j.cut.tiles, [&](size_t i, size_t) { pack_tile(j, i, packed); });
  }
  j.x = packed;
}

/// The stretch [step, step + steps) of one panel for one tile of rows.
void run_tile(const job& j, size_t panel, size_t tile_index, size_t step, size_t steps, float* sums,
              const std::byte* ahead, size_t ahead_step) {
  const size_t rows = j.cut.count(tile_index);
  tile t;
  t.x = j.x + j.cut.begin(tile_index) * packed_row_bytes(j) + step * rows * j.x_step_bytes;
  t.w = j.weight.panel(panel) + step * j.step_bytes;
  t.steps = steps;
  t.span = fp4_scale_span(j.weight.k());
  t.sums = sums;
  t.resume = step > 0;
  t.ahead = ahead;
  t.ahead_step = ahead_step;
  j.multiply(rows, t);
}

/// Sums of int8 codes become sums of what they stand for.
void scale_sums(const job& j, size_t panel, size_t first_row, size_t rows, float* sums) {
  const float* columns = j.weight.column_scales(panel);
  for (size_t r = 0; r < rows; ++r) {
    const float scale = j.row_scales[first_row + r];
    for (size_t c = 0; c < panel_columns; ++c)
      sums[r * panel_columns + c] *= scale * columns[c];
  }
}

/// The sums of one tile and panel on their way out. @param gated The next panel's, for a gate.
void finish_tile(const job& j, size_t panel, size_t tile_index, float* sums, float* gated) {
  const size_t row = j.cut.begin(tile_index);
  const auto [column, columns] = j.weight.columns_of(panel);
  if (j.row_scales != nullptr) {
    scale_sums(j, panel, row, j.cut.count(tile_index), sums);
    if (j.p.gate)
      scale_sums(j, panel + 1, row, j.cut.count(tile_index), gated);
  }
  tile_finish f;
  f.sums = sums;
  f.rows = j.cut.count(tile_index);
  f.columns = columns;
  f.bias = j.p.bias ? j.p.bias + column : nullptr;
  if (j.p.gate) {
    if (j.p.bias) {
      f.out = sums;
      f.out_stride = panel_columns;
      j.kernels.finish(f);
      tile_finish second = f;
      second.sums = second.out = gated;
      second.bias = j.p.bias + j.weight.columns_of(panel + 1).first;
      j.kernels.finish(second);
      f.bias = nullptr;
    }
    activate_row(j.kernels, *j.p.gate, sums, gated, f.rows * panel_columns, sums);
  }
  f.residual = j.p.residual ? j.p.residual + row * j.p.residual_stride + column : nullptr;
  f.residual_stride = j.p.residual_stride;
  f.out = j.p.out + row * j.p.out_stride + column;
  f.out_stride = j.p.out_stride;
  j.kernels.finish(f);
}

/// Up to `few_rows`: the weights come from memory once, a stretch at a time that stays in L1 while
/// all tiles use it; meanwhile each tile fetches its share of the next stretch.
void run_few_rows(const job& j, size_t first_panel, size_t last_panel, scratch_buffer& scratch) {
  const size_t tiles = j.cut.tiles;
  const size_t stretch =
      tiles == 1 ? j.steps : std::clamp<size_t>(l1_share / j.step_bytes, 1, j.steps);
  const size_t panel_sums = j.p.m * panel_columns;
  auto* sums = static_cast<float*>(scratch.reserve(j.unit() * panel_sums * sizeof(float)));
  for (size_t panel = first_panel; panel < last_panel; ++panel) {
    const size_t in_unit = panel % j.unit();
    for (size_t step = 0; step < j.steps; step += stretch) {
      const size_t steps = std::min(stretch, j.steps - step);
      const std::byte* next = j.weight.panel(panel) + step * j.step_bytes;
      next += tiles == 1 ? stream_distance : steps * j.step_bytes;
      const size_t ahead_step = (j.step_bytes + tiles - 1) / tiles;
      for (size_t i = 0; i < tiles; ++i)
        run_tile(j, panel, i, step, steps,
                 sums + in_unit * panel_sums + j.cut.begin(i) * panel_columns,
                 next + i * steps * ahead_step, ahead_step);
    }
    if (in_unit + 1 < j.unit())
      continue;
    for (size_t i = 0; i < tiles; ++i) {
      float* of_tile = sums + j.cut.begin(i) * panel_columns;
      finish_tile(j, panel - in_unit, i, of_tile, of_tile + panel_sums);
    }
  }
}

/// Many rows: blocks of x and of k that stay in L2 while the panels of a group pass by.
void run_many_rows(const job& j, size_t first_panel, size_t last_panel, scratch_buffer& scratch) {
  const size_t most_steps =
      j.format() == panel_format::fp4 ? 2048 / fp4_scale_span(j.weight.k()) : 2048;
  constexpr size_t group_panels = 8;
  const size_t stretches = (j.steps + most_steps - 1) / most_steps;
  const size_t stretch = (j.steps + stretches - 1) / stretches;
  const size_t rows_per_block =
      std::max<size_t>(l2_share / (stretch * j.x_step_bytes), 2 * j.kernels.tile_rows);
  const size_t tiles_per_block = std::max<size_t>(rows_per_block * j.cut.tiles / j.cut.rows, 1);
  const size_t group = stretches == 1 ? j.unit() : group_panels;
  const size_t most_rows = tiles_per_block * j.kernels.tile_rows;
  auto* sums =
      static_cast<float*>(scratch.reserve(group * most_rows * panel_columns * sizeof(float)));
  for (size_t first_tile = 0; first_tile < j.cut.tiles; first_tile += tiles_per_block) {
    const size_t last_tile = std::min(j.cut.tiles, first_tile + tiles_per_block);
    const size_t first_row = j.cut.begin(first_tile);
    const auto sums_of = [&](size_t panel, size_t tile_index) {
      return sums + (panel * most_rows + j.cut.begin(tile_index) - first_row) * panel_columns;
    };
    for (size_t base = first_panel; base < last_panel; base += group) {
      const size_t panels = std::min(group, last_panel - base);
      for (size_t step = 0; step < j.steps; step += stretch) {
        const size_t steps = std::min(stretch, j.steps - step);
        for (size_t panel = 0; panel < panels; ++panel) {
          const std::byte* next = j.weight.panel(base + panel) + (step + steps) * j.step_bytes;
          const size_t share =
              (j.step_bytes + last_tile - first_tile - 1) / (last_tile - first_tile);
          for (size_t i = first_tile; i < last_tile; ++i)
            run_tile(j, base + panel, i, step, steps, sums_of(panel, i),
                     next + (i - first_tile) * steps * share, share);
        }
      }
      for (size_t panel = 0; panel < panels; panel += j.unit())
        for (size_t i = first_tile; i < last_tile; ++i)
          finish_tile(j, base + panel, i, sums_of(panel, i), sums_of(panel + 1, i));
    }
  }
}

} // namespace

void multiply(context& where, const packed_matrix& weight, const product& p) {
  if (p.m == 0 || weight.n() == 0)
    return;
  const kernel_table& kernels = where.kernels();
  job j{kernels, weight, p, {p.m, (p.m + kernels.tile_rows - 1) / kernels.tile_rows}};
  const size_t k = weight.k();
  const size_t span = fp4_scale_span(k);
  j.step_bytes = panel_columns * 4;
  j.x_step_bytes = 4;
  j.steps = k;
  switch (weight.format()) {
  case panel_format::fp32:
    j.multiply = kernels.multiply_fp32;
    break;
  case panel_format::bf16:
    j.multiply = kernels.multiply_bf16;
    j.steps = (k + 1) / 2;
    j.x_step_bytes = kernels.pairs_of_x ? 4 : 8;
    break;
  case panel_format::int8:
    j.multiply = kernels.multiply_int8;
    j.step_bytes = panel_columns;
    break;
  case panel_format::fp4:
    j.multiply = kernels.multiply_fp4;
    j.steps = k / span;
    j.step_bytes = fp4_step_bytes(k);
    j.x_step_bytes = 4 * span;
    break;
  }
  pack_x(where, j);
  const size_t units = weight.panels() / j.unit();
  const size_t threads = where.pool().size();
  // More parts than threads: one that was kept from its processor does not hold up the others.
  const size_t parts = threads == 1 ? 1 : std::min(units, 4 * threads);
  where.pool().parallel_for(parts, [&](size_t part, size_t thread) {
    const size_t first = units * part / parts * j.unit();
    const size_t last = units * (part + 1) / parts * j.unit();
    scratch_buffer& scratch = where.thread_scratch(thread);
    if (p.m <= few_rows)
      run_few_rows(j, first, last, scratch);
    else
      run_many_rows(j, first, last, scratch);
  });
}

} // namespace troupe::models::cpu
