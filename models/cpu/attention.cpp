#include "troupe/models/cpu/attention.hpp"

#include <algorithm>

#include "troupe/models/cpu/kernels/table.hpp"

namespace troupe::models::cpu {

namespace {

/// Query rows of one unit: enough to reuse a tile of keys and values, few enough for many units.
constexpr uint32_t unit_rows = 36;

/// Where one head of one token goes: `keys` with `block_tokens` elements from one to the next.
template <class Element>
struct head_place {
  Element* keys;
  Element* values;
};

template <class Element>
head_place<Element> place_of(const kv_layout& layout, std::byte* block, uint32_t head,
                             uint32_t slot) {
  auto* keys = reinterpret_cast<Element*>(block) + head * layout.head_elements();
  return {keys + slot,
          keys + layout.kv_heads * layout.head_elements() + size_t{slot} * layout.head_size};
}

void write_head(const kv_layout& layout, head_place<float> to, const float* k, const float* v) {
  for (uint32_t d = 0; d < layout.head_size; ++d)
    to.keys[size_t{d} * layout.block_tokens] = k[d];
  std::copy_n(v, layout.head_size, to.values);
}

void write_head(const kernel_table& kernels, const kv_layout& layout, head_place<uint16_t> to,
                const float* k, const float* v) {
  constexpr uint32_t stretch = 128;
  uint16_t narrow[stretch];
  for (uint32_t begin = 0; begin < layout.head_size; begin += stretch) {
    const uint32_t count = std::min(stretch, layout.head_size - begin);
    kernels.narrow(k + begin, count, narrow);
    for (uint32_t d = 0; d < count; ++d)
      to.keys[size_t{begin + d} * layout.block_tokens] = narrow[d];
  }
  kernels.narrow(v, layout.head_size, to.values);
}

} // namespace

void write_kv(context& where, const kv_pages& pages, std::span<const attention_row> rows,
              const float* k, size_t k_stride, const float* v, size_t v_stride) {
  const kv_layout& layout = pages.layout;
  // A part is a head of a row: two threads then never write to the same half block.
  where.pool().parallel_for(rows.size() * layout.kv_heads, [&](size_t part, size_t) {
    const attention_row& row = rows[part / layout.kv_heads];
    const auto head = static_cast<uint32_t>(part % layout.kv_heads);
    const size_t offset = size_t{head} * layout.head_size;
    for (uint32_t i = 0; i < row.token_count; ++i) {
      const uint32_t position = row.position + i;
      std::byte* block =
          pages.base + row.blocks[position / layout.block_tokens] * pages.block_stride;
      const uint32_t slot = position % layout.block_tokens;
      const size_t token = row.first_token + i;
      const float* key = k + token * k_stride + offset;
      const float* value = v + token * v_stride + offset;
      if (layout.type == dtype::fp32)
        write_head(layout, place_of<float>(layout, block, head, slot), key, value);
      else
        write_head(where.kernels(), layout, place_of<uint16_t>(layout, block, head, slot), key,
                   value);
    }
  });
}

void attend(context& where, const kv_pages& pages, std::span<const attention_row> rows,
            const attention& a) {
  const kv_layout& layout = pages.layout;
  const uint32_t group = a.heads / layout.kv_heads;
  const uint32_t unit_tokens = std::max<uint32_t>(unit_rows / group, 1);
  const auto units_of = [&](const attention_row& row) {
    return size_t{layout.kv_heads} * ((row.token_count + unit_tokens - 1) / unit_tokens);
  };
  size_t units = 0;
  for (const auto& row : rows)
    units += units_of(row);
  const size_t scratch_bytes =
      attention_scratch_floats(size_t{unit_tokens} * group, layout.head_size) * sizeof(float);
  where.pool().parallel_for(units, [&](size_t index, size_t thread) {
    size_t left = index;
    const attention_row* row = rows.data();
    for (; left >= units_of(*row); ++row)
      left -= units_of(*row);
    const uint32_t kv_head = static_cast<uint32_t>(left) % layout.kv_heads;
    const uint32_t first = static_cast<uint32_t>(left) / layout.kv_heads * unit_tokens;
    attention_unit u;
    const size_t head_offset = size_t{kv_head} * group * layout.head_size;
    u.q = a.q + (row->first_token + first) * a.q_stride + head_offset;
    u.q_stride = a.q_stride;
    u.out = a.out + (row->first_token + first) * a.out_stride + head_offset;
    u.out_stride = a.out_stride;
    u.tokens = std::min(unit_tokens, row->token_count - first);
    u.group = group;
    u.position = row->position + first;
    u.window = a.window;
    u.scale = a.scale;
    u.head_size = layout.head_size;
    u.block_tokens = layout.block_tokens;
    u.bf16 = layout.type == dtype::bf16;
    u.keys = pages.base + kv_head * layout.head_elements() * layout.element_bytes();
    u.values = u.keys + layout.kv_heads * layout.head_elements() * layout.element_bytes();
    u.block_stride = pages.block_stride;
    u.blocks = row->blocks;
    u.scratch = static_cast<float*>(where.thread_scratch(thread).reserve(scratch_bytes));
    where.kernels().attend(u);
  });
}

} // namespace troupe::models::cpu
