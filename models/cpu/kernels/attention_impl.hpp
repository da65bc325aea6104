#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "troupe/models/cpu/kernels/math_impl.hpp"
#include "troupe/models/cpu/kernels/table.hpp"

/// Attention of one unit (some tokens, the heads of one kv head) over its pages. Every query goes
/// through the same operations in the same order however many others are taken with it: positions
/// in tiles of 64 that start at multiples of 64, head dimensions and positions ascending, one sum
/// each.
namespace troupe::models::cpu {
namespace {

inline constexpr size_t tile_vectors = attention_tile / simd::width;
inline constexpr float minus_infinity = -__builtin_inff();

/// The query rows of a unit: token by token, the group's heads within.
struct query_rows {
  float* q = nullptr;   ///< Scaled queries, for each batch of rows [head_size][rows of the batch].
  float* out = nullptr; ///< [rows][padded head size], not yet divided by `sum`.
  float* scores = nullptr; ///< [rows][64], of the current tile; later their exponentials.
  float* largest = nullptr;
  float* sum = nullptr;
  float* correction = nullptr; ///< What the tile multiplies earlier sums by.
  size_t padded = 0;           ///< head_size in whole vectors.
};

/// Positions within a tile, [from, to).
struct tile_range {
  int32_t from = 0;
  int32_t to = 0;
  bool empty() const { return from >= to; }
};

/// Keys and values of one tile: where each block's begin.
template <class Element>
struct tile_pages {
  const Element* keys[attention_tile / 8];
  const Element* values[attention_tile / 8];
};

/// Which of a tile's positions the query at `position` sees.
inline tile_range visible(const attention_unit& u, uint32_t position, uint32_t tile_start) {
  const int64_t start = tile_start;
  int64_t to = int64_t{position} + 1 - start;
  int64_t from = u.window == 0 ? 0 : int64_t{position} + 1 - u.window - start;
  to = to > int64_t{attention_tile} ? int64_t{attention_tile} : to;
  from = from < 0 ? 0 : from;
  return {static_cast<int32_t>(from), static_cast<int32_t>(to < 0 ? 0 : to)};
}

template <class Element>
tile_pages<Element> pages_of(const attention_unit& u, uint32_t tile_start, uint32_t first_block,
                             uint32_t last_block) {
  tile_pages<Element> pages;
  const uint32_t tile_block = tile_start / u.block_tokens;
  for (uint32_t i = 0; i < attention_tile / u.block_tokens; ++i) {
    // Blocks that no query sees may not be in the table: another one's numbers are masked as well.
    uint32_t block = tile_block + i;
    block = block < first_block ? first_block : block > last_block ? last_block : block;
    const size_t offset = u.blocks[block] * u.block_stride;
    pages.keys[i] = reinterpret_cast<const Element*>(u.keys + offset);
    pages.values[i] = reinterpret_cast<const Element*>(u.values + offset);
  }
  return pages;
}

/// Fetches a cache line that the next phase will ask for: pages lie scattered, so the processor
/// does not foresee them.
inline void fetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

/// Scores of `Rows` queries with `key_vectors` vectors of positions from `first_vector` on.
/// Halves: blocks of 8 tokens under vectors of 16.
template <size_t Rows, bool Halves, class Element>
void score_vectors(const attention_unit& u, const float* q, const tile_pages<Element>& pages,
                   size_t first_vector, float* scores) {
  constexpr size_t vectors = simd::key_vectors;
  const Element* keys[vectors];
  const Element* second[vectors];
  const Element* values[vectors]; // As long as the keys, and needed next.
  const size_t stride = u.block_tokens;
  for (size_t v = 0; v < vectors; ++v) {
    const size_t position = (first_vector + v) * simd::width;
    keys[v] = pages.keys[position / stride] + position % stride;
    second[v] = Halves ? pages.keys[position / stride + 1] : keys[v];
    values[v] = pages.values[position / stride] + position % stride;
  }
  simd::vec sums[Rows][vectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v)
      sums[r][v] = simd::zero();
  size_t offset = 0;
  for (size_t d = u.head_size; d > 0; --d) {
    simd::vec key[vectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v) {
      if constexpr (Halves)
        key[v] = simd::load_halves(keys[v] + offset, second[v] + offset);
      else
        key[v] = simd::load(keys[v] + offset);
      fetch(values[v] + offset);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < Rows; ++r) {
      const simd::vec value = simd::set1(q[r]);
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; ++v)
        sums[r][v] = simd::fma(value, key[v], sums[r][v]);
    }
    q += Rows;
    offset += stride;
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; ++v)
      simd::store(scores + r * attention_tile + (first_vector + v) * simd::width, sums[r][v]);
}

/// Largest score of a row within its range; scores outside become minus infinity.
inline float largest_score(float* scores, tile_range range) {
  simd::vec top = simd::set1(minus_infinity);
  if (range.from == 0 && range.to == static_cast<int32_t>(attention_tile)) {
#pragma GCC unroll 8
    for (size_t v = 0; v < tile_vectors; ++v)
      top = simd::max(top, simd::load(scores + v * simd::width));
    return simd::largest(top);
  }
  const simd::vec nothing = top;
#pragma GCC unroll 8
  for (size_t v = 0; v < tile_vectors; ++v) {
    const simd::vec seen =
        simd::keep_between(simd::load(scores + v * simd::width),
                           static_cast<int32_t>(v * simd::width), range.from, range.to, nothing);
    simd::store(scores + v * simd::width, seen);
    top = simd::max(top, seen);
  }
  return simd::largest(top);
}

/// One step of the online softmax: scores become exponentials, `largest`, `sum` and `correction`
/// follow. Three passes over the rows, so that one row's chain of operations hides another's.
template <size_t Rows>
void soften(const query_rows& rows, size_t row, const tile_range (&ranges)[Rows]) {
  alignas(64) float change[simd::width] = {};
  for (size_t r = 0; r < Rows; ++r) {
    if (ranges[r].empty())
      continue;
    const float top = largest_score(rows.scores + (row + r) * attention_tile, ranges[r]);
    const float before = rows.largest[row + r];
    const float now = top > before ? top : before;
    change[r] = before - now;
    rows.largest[row + r] = now;
  }
  alignas(64) float corrections[simd::width];
  simd::store(corrections, bounded_exp(simd::load(change)));
  for (size_t r = 0; r < Rows; ++r) {
    if (ranges[r].empty())
      continue;
    float* scores = rows.scores + (row + r) * attention_tile;
    const simd::vec largest = simd::set1(rows.largest[row + r]);
    simd::vec total = simd::zero();
#pragma GCC unroll 8
    for (size_t v = 0; v < tile_vectors; ++v) {
      const simd::vec e = bounded_exp(simd::sub(simd::load(scores + v * simd::width), largest));
      simd::store(scores + v * simd::width, e);
      total = simd::add(total, e);
    }
    rows.correction[row + r] = corrections[r];
    rows.sum[row + r] = __builtin_fmaf(rows.sum[row + r], corrections[r], simd::sum(total));
  }
}

/// Adds the values of [from, to) times their exponentials, for `Vectors` vectors of head
/// dimensions. Correct: first multiplies what is there by the corrections.
template <size_t Rows, size_t Vectors, bool Correct, class Element>
void add_values(const attention_unit& u, const query_rows& rows, size_t row,
                const tile_pages<Element>& pages, const tile_pages<Element>& next, tile_range range,
                size_t dimension) {
  simd::vec sums[Rows][Vectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < Rows; ++r) {
    const float* out = rows.out + (row + r) * rows.padded + dimension;
    const simd::vec factor = simd::set1(rows.correction[row + r]);
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v) {
      sums[r][v] = simd::load(out + v * simd::width);
      if constexpr (Correct)
        sums[r][v] = simd::mul(sums[r][v], factor);
    }
  }
  const float* weights = rows.scores + row * attention_tile;
  const size_t left = u.head_size - dimension;
  const size_t block_tokens = u.block_tokens;
  for (size_t t = static_cast<size_t>(range.from); t < static_cast<size_t>(range.to);) {
    const size_t block = t / block_tokens;
    const size_t end = (block + 1) * block_tokens;
    const size_t stop = end < static_cast<size_t>(range.to) ? end : static_cast<size_t>(range.to);
    const size_t offset = (t - block * block_tokens) * u.head_size + dimension;
    const Element* values = pages.values[block] + offset;
    const Element* next_keys = next.keys[block] + offset;
    for (; t < stop; ++t) {
      simd::vec value[Vectors];
      if constexpr (Vectors == 1) {
        value[0] = left >= simd::width ? simd::load(values) : simd::load_some(values, left);
      } else {
#pragma GCC unroll 4
        for (size_t v = 0; v < Vectors; ++v)
          value[v] = simd::load(values + v * simd::width);
      }
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; ++v)
        fetch(next_keys + v * simd::width);
#pragma GCC unroll 8
      for (size_t r = 0; r < Rows; ++r) {
        const simd::vec weight = simd::set1(weights[r * attention_tile + t]);
#pragma GCC unroll 4
        for (size_t v = 0; v < Vectors; ++v)
          sums[r][v] = simd::fma(weight, value[v], sums[r][v]);
      }
      values += u.head_size;
      next_keys += u.head_size;
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; ++v)
      simd::store(rows.out + (row + r) * rows.padded + dimension + v * simd::width, sums[r][v]);
}

template <size_t Rows, bool Correct, class Element>
void add_all_values(const attention_unit& u, const query_rows& rows, size_t row,
                    const tile_pages<Element>& pages, const tile_pages<Element>& next,
                    tile_range range) {
  constexpr size_t chunk = simd::value_vectors * simd::width;
  size_t dimension = 0;
  for (; dimension + chunk <= u.head_size; dimension += chunk)
    add_values<Rows, simd::value_vectors, Correct>(u, rows, row, pages, next, range, dimension);
  for (; dimension < u.head_size; dimension += simd::width)
    add_values<Rows, 1, Correct>(u, rows, row, pages, next, range, dimension);
}

/// One tile for `Rows` queries from `row` on.
template <size_t Rows, class Element>
void take_tile(const attention_unit& u, const query_rows& rows, size_t row,
               const tile_pages<Element>& pages, const tile_pages<Element>& next,
               uint32_t tile_start) {
  tile_range ranges[Rows];
  tile_range common{0, static_cast<int32_t>(attention_tile)};
  tile_range needed{static_cast<int32_t>(attention_tile), 0};
  bool all = true;
  for (size_t r = 0; r < Rows; ++r) {
    const tile_range range =
        visible(u, u.position + static_cast<uint32_t>((row + r) / u.group), tile_start);
    ranges[r] = range;
    if (range.empty()) {
      all = false;
      continue;
    }
    common.from = range.from > common.from ? range.from : common.from;
    common.to = range.to < common.to ? range.to : common.to;
    needed.from = range.from < needed.from ? range.from : needed.from;
    needed.to = range.to > needed.to ? range.to : needed.to;
  }
  if (needed.empty())
    return;
  const float* q = rows.q + row * u.head_size;
  float* scores = rows.scores + row * attention_tile;
  constexpr size_t stretch = simd::key_vectors * simd::width;
  for (size_t v = 0; v < tile_vectors; v += simd::key_vectors) {
    const auto first = static_cast<int32_t>(v * simd::width);
    if (first >= needed.to || first + static_cast<int32_t>(stretch) <= needed.from)
      continue;
    if (simd::width > u.block_tokens)
      score_vectors<Rows, (simd::width > 8)>(u, q, pages, v, scores);
    else
      score_vectors<Rows, false>(u, q, pages, v, scores);
  }
  soften<Rows>(rows, row, ranges);
  if (all && !common.empty()) {
    bool together = true;
    for (size_t r = 0; r < Rows; ++r)
      together = together && ranges[r].from == common.from;
    // What only some see comes before or after what all see, so each query's order is kept.
    if (together) {
      add_all_values<Rows, true>(u, rows, row, pages, next, common);
    } else {
      for (size_t r = 0; r < Rows; ++r)
        add_all_values<1, true>(u, rows, row + r, pages, next,
                                tile_range{ranges[r].from, common.from});
      add_all_values<Rows, false>(u, rows, row, pages, next, common);
    }
    for (size_t r = 0; r < Rows; ++r)
      if (ranges[r].to > common.to)
        add_all_values<1, false>(u, rows, row + r, pages, next,
                                 tile_range{common.to, ranges[r].to});
    return;
  }
  for (size_t r = 0; r < Rows; ++r)
    if (!ranges[r].empty())
      add_all_values<1, true>(u, rows, row + r, pages, next, ranges[r]);
}

template <class Element, size_t Rows = 1>
void choose_tile(size_t count, const attention_unit& u, const query_rows& rows, size_t row,
                 const tile_pages<Element>& pages, const tile_pages<Element>& next,
                 uint32_t tile_start) {
  if (count == Rows)
    take_tile<Rows>(u, rows, row, pages, next, tile_start);
  else if constexpr (Rows < simd::query_rows)
    choose_tile<Element, Rows + 1>(count, u, rows, row, pages, next, tile_start);
}

/// Scaled queries, batch by batch, dimension by dimension.
inline void pack_queries(const attention_unit& u, size_t count, float* out) {
  for (size_t row = 0; row < count; row += simd::query_rows) {
    const size_t batch = count - row < simd::query_rows ? count - row : simd::query_rows;
    for (size_t r = 0; r < batch; ++r) {
      const float* q = u.q + (row + r) / u.group * u.q_stride + (row + r) % u.group * u.head_size;
      float* to = out + row * u.head_size + r;
      for (size_t d = 0; d < u.head_size; ++d)
        to[d * batch] = q[d] * u.scale;
    }
  }
}

template <class Element>
void attend_pages(const attention_unit& u) {
  const size_t count = size_t{u.tokens} * u.group;
  query_rows rows;
  rows.padded = (u.head_size + simd::width - 1) / simd::width * simd::width;
  rows.out = u.scratch;
  rows.scores = rows.out + count * rows.padded;
  rows.q = rows.scores + count * attention_tile;
  rows.largest = rows.q + count * u.head_size;
  rows.sum = rows.largest + count;
  rows.correction = rows.sum + count;
  const uint32_t last = u.position + u.tokens - 1;
  const uint32_t first =
      u.window == 0 || u.position + 1 <= u.window ? 0 : u.position + 1 - u.window;
  const uint32_t first_block = first / u.block_tokens;
  const uint32_t last_block = last / u.block_tokens;
  uint32_t start = first / attention_tile * attention_tile;
  auto pages = pages_of<Element>(u, start, first_block, last_block);
  for (uint32_t i = 0; i < attention_tile / u.block_tokens; ++i)
    for (size_t line = 0; line < 8; ++line)
      fetch(reinterpret_cast<const std::byte*>(pages.keys[i]) + line * 64);
  pack_queries(u, count, rows.q);
  for (size_t i = 0; i < count * rows.padded; ++i)
    rows.out[i] = 0;
  for (size_t r = 0; r < count; ++r) {
    rows.largest[r] = minus_infinity;
    rows.sum[r] = 0;
  }
  for (; start <= last; start += attention_tile) {
    const auto next = pages_of<Element>(u, start + attention_tile, first_block, last_block);
    for (size_t row = 0; row < count; row += simd::query_rows)
      choose_tile<Element>(count - row < simd::query_rows ? count - row : simd::query_rows, u, rows,
                           row, pages, next, start);
    pages = next;
  }
  for (size_t row = 0; row < count; ++row) {
    const float share = 1.0f / rows.sum[row];
    float* out = u.out + row / u.group * u.out_stride + row % u.group * u.head_size;
    for (size_t d = 0; d < u.head_size; ++d)
      out[d] = rows.out[row * rows.padded + d] * share;
  }
}

void attend(const attention_unit& u) {
  if (u.bf16)
    attend_pages<uint16_t>(u);
  else
    attend_pages<float>(u);
}

} // namespace
} // namespace troupe::models::cpu
