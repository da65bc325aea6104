#include <algorithm>
#include <numeric>

#include "support.hpp"

namespace troupe::test {

namespace {

struct shape {
  element type = element::bf16;
  uint32_t kv_heads = 2, per_kv = 4, head_size = 64, block_tokens = 16;
  uint32_t window = 0;
  bool norms = false, rotary = true;
  uint32_t heads() const { return kv_heads * per_kv; }
  uint32_t width() const { return (heads() + 2 * kv_heads) * head_size; }
  std::string name() const {
    return std::string{type == element::bf16   ? "bf16"
                       : type == element::fp16 ? "fp16"
                                               : "fp32"} +
           " K=" + std::to_string(kv_heads) + " H/K=" + std::to_string(per_kv) +
           " D=" + std::to_string(head_size) + " block=" + std::to_string(block_tokens) +
           " window=" + std::to_string(window) + (norms ? " norms" : "");
  }
};

/// A row: what its sequence has already, and what the step brings.
struct row {
  uint32_t before = 0, count = 1;
};

/// A step over pages with random content; slots and blocks are scattered, one row in four is
/// padding, and everything that no row owns is NaN.
class paged_step {
public:
  paged_step(const shape& s, std::vector<row> rows_, std::mt19937& random)
      : s(s), rows(std::move(rows_)), count(token_total()), qkv(s.type, count + 2, s.width(), 8),
        pages(s.type, block_total(), 2 * s.kv_heads * s.block_tokens * s.head_size * layers),
        out(s.type, count + 2, s.heads() * s.head_size, 8),
        frequencies(random_floats(random, 2 * (s.head_size / 2), 0.001, 1)),
        q_weight(random_floats(random, s.head_size, 0.5, 1.5)),
        k_weight(random_floats(random, s.head_size, 0.5, 1.5)), arrays(lay_out(random)),
        slots_data(arrays.slots), firsts_data(arrays.firsts), counts_data(arrays.counts),
        positions_data(arrays.positions), token_rows_data(arrays.token_rows),
        tables_data(arrays.tables), rotation_data(arrays.rotation),
        frequencies_data(floats_of(frequencies)), q_weight_data(floats_of(q_weight)),
        k_weight_data(floats_of(k_weight)) {
    qkv.randomize(random, 2);
    for (size_t i = 0; i < rows.size(); ++i)
      for (uint32_t position = first_seen(rows[i]); position < rows[i].before; ++position)
        for (uint32_t h = 0; h < s.kv_heads; ++h)
          for (uint32_t d = 0; d < s.head_size; ++d)
            for (const bool value : {false, true})
              page(i, position, h, d, value) =
                  rounded(s.type, std::uniform_real_distribution<double>(-2, 2)(random));
    pages.upload();
    step.positions = positions_data.data();
    step.token_rows = token_rows_data.data();
    step.slots = slots_data.data();
    step.first_tokens = firsts_data.data();
    step.token_counts = counts_data.data();
    step.block_tables = tables_data.data();
    step.table_stride = table_stride;
    step.count = count + 2;
    step.rows = static_cast<uint32_t>(rows.size());
    q_norm = {norm_function::rms, q_weight_data.data(), nullptr, 1e-6f};
    k_norm = {norm_function::rms, k_weight_data.data(), nullptr, 1e-6f};
    rotate = {s.rotary ? frequencies_data.data() : nullptr, rotation_data.data(), 1.25f};
  }

  /// The second of three layers.
  kv_pages layer() const {
    kv_pages p{pages.view().data, 0, s.type, s.kv_heads, s.head_size, s.block_tokens};
    p.block_stride = layer_block_bytes(p) * layers;
    p.base = static_cast<unsigned char*>(p.base) + layer_block_bytes(p);
    return p;
  }
  attention how() const {
    return {s.heads(), 1 / std::sqrt(static_cast<float>(s.head_size)), s.window};
  }

  double& page(size_t r, uint32_t position, uint32_t head, uint32_t d, bool value) {
    const uint32_t block =
        arrays.tables[arrays.slots[r] * table_stride + position / s.block_tokens];
    const size_t half = size_t{s.kv_heads} * s.block_tokens * s.head_size;
    return pages.at(
        block, 2 * half + (value ? half : 0) +
                   (size_t{head} * s.block_tokens + position % s.block_tokens) * s.head_size + d);
  }

  /// What rotation should make of the step: q in qkv, k and v in the pages.
  void reference_rotation() {
    const uint32_t d = s.head_size;
    for (size_t r = 0; r < rows.size(); ++r)
      for (uint32_t i = 0; i < rows[r].count; ++i) {
        const uint32_t token = arrays.firsts[r] + i, position = rows[r].before + i;
        for (uint32_t h = 0; h < s.heads() + 2 * s.kv_heads; ++h) {
          std::vector<double> v(d);
          for (uint32_t e = 0; e < d; ++e)
            v[e] = qkv.at(token, h * d + e);
          const bool is_value = h >= s.heads() + s.kv_heads;
          if (!is_value) {
            if (s.norms)
              reference_norm(norm_function::rms, 1e-6, h < s.heads() ? q_weight : k_weight, {},
                             v.data(), d);
            for (uint32_t e = 0; s.rotary && e < d / 2; ++e) {
              const double angle = static_cast<double>(
                  static_cast<float>(position) *
                  static_cast<float>(frequencies[arrays.rotation[arrays.slots[r]] * (d / 2) + e]));
              const double c = std::cos(angle) * 1.25, sn = std::sin(angle) * 1.25, a = v[e];
              v[e] = a * c - v[e + d / 2] * sn;
              v[e + d / 2] = v[e + d / 2] * c + a * sn;
            }
          }
          for (uint32_t e = 0; e < d; ++e) {
            if (h < s.heads())
              qkv.at(token, h * d + e) = rounded(s.type, v[e]);
            else
              page(r, position, (h - s.heads()) % s.kv_heads, e, is_value) = rounded(s.type, v[e]);
          }
        }
      }
  }

  /// Attention of the rows that `serves`; what is not served stays NaN.
  std::vector<double> reference_attention(const std::function<bool(const row&)>& serves) {
    std::vector<double> result(out.values.size(), std::nan(""));
    const double scale = 1 / std::sqrt(static_cast<double>(s.head_size));
    for (size_t r = 0; r < rows.size(); ++r)
      for (uint32_t i = 0; serves(rows[r]) && i < rows[r].count; ++i) {
        const uint32_t token = arrays.firsts[r] + i, last = rows[r].before + i;
        const uint32_t first = s.window != 0 && last + 1 > s.window ? last + 1 - s.window : 0;
        for (uint32_t h = 0; h < s.heads(); ++h) {
          std::vector<double> weight;
          double total = 0;
          for (uint32_t position = first; position <= last; ++position) {
            double dot = 0;
            for (uint32_t d = 0; d < s.head_size; ++d)
              dot += qkv.at(token, h * s.head_size + d) * page(r, position, h / s.per_kv, d, false);
            weight.push_back(std::exp(dot * scale));
            total += weight.back();
          }
          for (uint32_t d = 0; d < s.head_size; ++d) {
            double sum = 0;
            for (size_t n = 0; n < weight.size(); ++n)
              sum += weight[n] * page(r, first + static_cast<uint32_t>(n), h / s.per_kv, d, true);
            result[token * size_t{out.columns()} + h * s.head_size + d] = sum / total;
          }
        }
      }
    return result;
  }

  void poison_out() {
    std::fill(out.values.begin(), out.values.end(), std::nan(""));
    TROUPE_MUST(cudaMemset(out.view().data, 0xff,
                           (count + 2) * (size_t{out.columns()} + 8) * size_of(s.type)));
    TROUPE_MUST(cudaDeviceSynchronize());
  }

  static constexpr uint32_t layers = 3;
  shape s;
  std::vector<row> rows;
  uint32_t count;
  tensor qkv, pages, out;
  std::vector<double> frequencies, q_weight, k_weight;
  size_t table_stride = 0;
  struct host_arrays {
    std::vector<uint32_t> slots, firsts, counts, positions, token_rows, tables, rotation;
  } arrays;
  device_vector<uint32_t> slots_data, firsts_data, counts_data, positions_data, token_rows_data,
      tables_data, rotation_data;
  device_vector<float> frequencies_data, q_weight_data, k_weight_data;
  step_arrays step;
  norm q_norm, k_norm;
  rotation rotate;

private:
  /// The first position that the row's first token sees.
  uint32_t first_seen(const row& r) const {
    return s.window != 0 && r.before + 1 > s.window ? r.before + 1 - s.window : 0;
  }
  uint32_t blocks_of(const row& r) const {
    return (r.before + r.count + s.block_tokens - 1) / s.block_tokens;
  }
  uint32_t token_total() const {
    uint32_t total = 0;
    for (const auto& r : rows)
      total += r.count;
    return total;
  }
  uint32_t block_total() const {
    uint32_t total = 1;
    for (const auto& r : rows)
      total += blocks_of(r);
    return total;
  }
  host_arrays lay_out(std::mt19937& random) {
    host_arrays a;
    const auto slots = static_cast<uint32_t>(rows.size()) + 3;
    a.slots.resize(slots);
    std::iota(a.slots.begin(), a.slots.end(), 0u);
    std::shuffle(a.slots.begin(), a.slots.end(), random);
    a.slots.resize(rows.size());
    for (const auto& r : rows)
      table_stride = std::max<size_t>(table_stride, blocks_of(r) + 1);
    std::vector<uint32_t> blocks(block_total());
    std::iota(blocks.begin(), blocks.end(), 0u);
    std::shuffle(blocks.begin(), blocks.end(), random);
    // What lies behind a sequence's blocks must not be looked at.
    a.tables.assign(slots * table_stride, 0x0fffffff);
    for (uint32_t i = 0; i < slots; ++i)
      a.rotation.push_back(i % 2);
    uint32_t token = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      a.firsts.push_back(token);
      a.counts.push_back(rows[r].count);
      for (uint32_t b = 0; b < blocks_of(rows[r]); ++b) {
        // Nor what lies wholly before the window.
        const uint32_t end = (b + 1) * s.block_tokens;
        if (s.window == 0 || end + s.window > rows[r].before + 1)
          a.tables[a.slots[r] * table_stride + b] = blocks.back();
        blocks.pop_back();
      }
      for (uint32_t i = 0; i < rows[r].count; ++i, ++token) {
        a.positions.push_back(rows[r].before + i);
        a.token_rows.push_back(static_cast<uint32_t>(r));
      }
    }
    for (int i = 0; i < 2; ++i) {
      a.positions.push_back(0);
      a.token_rows.push_back(no_row);
    }
    return a;
  }
};

/// Compares where something is wanted, and requires NaN elsewhere.
void close_where_wanted(report& r, const std::vector<double>& got, const std::vector<double>& want,
                        double tolerance, const std::string& what) {
  std::vector<double> a, b;
  bool untouched = true;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) {
      untouched = untouched && std::isnan(got[i]);
      continue;
    }
    a.push_back(got[i]);
    b.push_back(want[i]);
  }
  r.close(a, b, tolerance, what);
  r.expect(untouched, what + ": wrote what is not its own");
}

std::vector<shape> shapes_of(const report& r) {
  std::vector<shape> shapes;
  for (const auto type : {element::bf16, element::fp16, element::fp32})
    for (const uint32_t size : {8u, 64u, 96u, 128u, 256u}) {
      if (r.small() && (size > 128 || type == element::fp16))
        continue;
      for (const uint32_t per_kv : {1u, 3u, 4u, 8u, 12u}) {
        if (per_kv == 12 && size != 64)
          continue;
        const uint32_t block = per_kv == 1 ? 8 : per_kv == 3 ? 32 : 16;
        shapes.push_back({.type = type,
                          .kv_heads = per_kv == 3 ? 3u : 2u,
                          .per_kv = per_kv,
                          .head_size = size,
                          .block_tokens = block,
                          .window = per_kv == 4 ? 37u : 0u,
                          .norms = per_kv == 8,
                          .rotary = per_kv != 12});
      }
    }
  return shapes;
}

double attention_tolerance(element type) {
  return type == element::fp32 ? 1e-5 : precision_of(type) * 1.5;
}

} // namespace

void test_rotation(report& r, const bench_place& p) {
  std::mt19937 random(6);
  for (const auto& s : shapes_of(r)) {
    paged_step f(s, {{0, 1}, {30, 1}, {7, 0}, {5, 20}, {0, 9}}, random);
    TROUPE_MUST(rotate_and_store(p.on, f.step, f.qkv.view(), s.heads(),
                                 s.norms ? &f.q_norm : nullptr, s.norms ? &f.k_norm : nullptr,
                                 f.rotate, f.layer()));
    p.wait();
    f.reference_rotation();
    const auto qkv = f.qkv.values, pages = f.pages.values;
    r.expect(f.qkv.download(), s.name() + ": padding");
    f.pages.download();
    const double tolerance = std::max(precision_of(s.type), 3e-6);
    close_where_wanted(r, f.qkv.values, qkv, tolerance, s.name() + " q");
    close_where_wanted(r, f.pages.values, pages, tolerance, s.name() + " pages");
  }
}

void test_decode_attention(report& r, const bench_place& p) {
  std::mt19937 random(7);
  const std::vector<row> rows = {{0, 1},  {15, 1}, {16, 1}, {3, 0},   {200, 1},
                                 {63, 1}, {10, 4}, {64, 1}, {130, 1}, {r.small() ? 70u : 700u, 1}};
  for (const auto& s : shapes_of(r)) {
    paged_step f(s, rows, random);
    f.reference_rotation();
    f.qkv.upload();
    f.pages.upload();
    const auto want = f.reference_attention([](const row& x) { return x.count == 1; });
    for (const decode_split split : {decode_split{1, 0}, decode_split{5, 0}, decode_split{16, 0},
                                     decode_split{8, 128}, decode_split{12, 64}}) {
      device_memory workspace(
          decode_workspace_bytes(f.step.rows, s.heads(), s.kv_heads, s.head_size, split), 0);
      for (int again = 0; again < 2; ++again) {
        f.poison_out();
        TROUPE_MUST(attend_decode(p.on, f.step, f.qkv.view(), f.how(), f.layer(), split,
                                  workspace.data(), f.out.view()));
        p.wait();
        r.expect(f.out.download(), s.name() + ": padding");
        close_where_wanted(r, f.out.values, want, attention_tolerance(s.type),
                           s.name() + " parts=" + std::to_string(split.parts));
      }
    }
    // The fused launch gives the bits of the two, in the pages as well.
    if (!can_fuse_decode(f.how(), f.layer()))
      continue;
    const std::vector<row> ones = {{0, 1}, {15, 1}, {200, 1}, {9, 0}, {63, 1}, {64, 1}, {129, 1}};
    paged_step both(s, ones, random);
    for (const uint32_t parts : {1u, 4u}) {
      const decode_split split{parts, 0};
      device_memory workspace(
          decode_workspace_bytes(both.step.rows, s.heads(), s.kv_heads, s.head_size, split), 0);
      const auto qkv = both.qkv.values, pages = both.pages.values;
      both.poison_out();
      TROUPE_MUST(rotate_and_attend(p.on, both.step, both.qkv.view(),
                                    s.norms ? &both.q_norm : nullptr,
                                    s.norms ? &both.k_norm : nullptr, both.rotate, both.how(),
                                    both.layer(), split, workspace.data(), both.out.view()));
      p.wait();
      both.out.download();
      both.pages.download();
      const auto fused_out = both.out.bytes, fused_pages = both.pages.bytes;
      both.qkv.values = qkv;
      both.qkv.upload();
      both.pages.values = pages;
      both.pages.upload();
      both.poison_out();
      TROUPE_MUST(rotate_and_store(p.on, both.step, both.qkv.view(), s.heads(),
                                   s.norms ? &both.q_norm : nullptr,
                                   s.norms ? &both.k_norm : nullptr, both.rotate, both.layer()));
      TROUPE_MUST(attend_decode(p.on, both.step, both.qkv.view(), both.how(), both.layer(), split,
                                workspace.data(), both.out.view()));
      p.wait();
      both.out.download();
      both.pages.download();
      r.expect(both.out.bytes == fused_out, s.name() + ": fused attention has other bits");
      r.expect(both.pages.bytes == fused_pages, s.name() + ": fused rotation has other bits");
      both.qkv.values = qkv;
      both.qkv.upload();
      both.pages.values = pages;
      both.pages.upload();
    }
  }
}

void test_prefill_attention(report& r, const bench_place& p) {
  std::mt19937 random(8);
  std::vector<row> rows = {{0, 1}, {0, 5}, {40, 33}, {3, 0}, {17, 1}, {64, 70}};
  if (!r.small())
    rows.push_back({100, 300});
  for (const auto& s : shapes_of(r)) {
    paged_step f(s, rows, random);
    f.reference_rotation();
    f.qkv.upload();
    f.pages.upload();
    // Rows with one token are served as well when they are given.
    for (const bool all : {true, false}) {
      const auto serves = [all](const row& x) { return all || x.count > 1; };
      const auto want = f.reference_attention(serves);
      std::vector<query_tile> tiles;
      const uint32_t each = prefill_tile_tokens(f.how(), f.layer());
      for (size_t i = 0; i < rows.size(); ++i)
        for (uint32_t first = 0; serves(rows[i]) && first < rows[i].count; first += each)
          tiles.push_back({static_cast<uint32_t>(i), first});
      tiles.push_back({no_row, 0});
      const device_vector<query_tile> tiles_data(tiles);
      f.poison_out();
      TROUPE_MUST(attend_prefill(p.on, f.step, f.qkv.view(), f.how(), f.layer(), tiles_data.data(),
                                 static_cast<uint32_t>(tiles.size()), f.out.view()));
      p.wait();
      r.expect(f.out.download(), s.name() + ": padding");
      close_where_wanted(r, f.out.values, want, attention_tolerance(s.type), s.name());
    }
  }
}

} // namespace troupe::test
