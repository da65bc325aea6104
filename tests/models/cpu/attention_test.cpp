#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/attention.hpp"
#include "troupe/models/cpu/convert.hpp"
#include "troupe/tests/models/cpu/numbers.hpp"

namespace cpu = troupe::models::cpu;
using troupe::models::dtype;
using troupe::test::random_floats;
using troupe::test::same_bits;

namespace {

/// One sequence's queries, keys and values, token by token.
struct sequence {
  uint32_t length = 0;
  uint32_t heads = 0;
  cpu::kv_layout layout;
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;

  sequence(uint32_t length, uint32_t heads, cpu::kv_layout layout, uint32_t seed)
      : length(length), heads(heads), layout(layout),
        q(random_floats(size_t{length} * heads * layout.head_size, seed)),
        k(random_floats(kv_floats(), seed + 1)), v(random_floats(kv_floats(), seed + 2)) {
    for (float& x : q)
      x *= 4; // So that some keys matter more than others.
  }

  size_t kv_width() const { return size_t{layout.kv_heads} * layout.head_size; }
  size_t q_width() const { return size_t{heads} * layout.head_size; }
  size_t kv_floats() const { return length * kv_width(); }
};

/// Pages full of NaNs, and tables that hand them out in a mixed-up order.
struct page_pool {
  cpu::kv_layout layout;
  std::vector<std::byte> memory;
  size_t stride;
  std::vector<uint32_t> free;

  page_pool(cpu::kv_layout layout, uint32_t blocks, uint32_t seed)
      : layout(layout), stride(layout.block_bytes() + 64) {
    memory.resize(stride * blocks, std::byte{0xff});
    for (uint32_t i = 0; i < blocks; ++i)
      free.push_back(i);
    std::shuffle(free.begin(), free.end(), std::mt19937{seed});
  }

  std::vector<uint32_t> table(uint32_t length) {
    std::vector<uint32_t> blocks;
    for (uint32_t i = 0; i < length; i += layout.block_tokens) {
      blocks.push_back(free.back());
      free.pop_back();
    }
    return blocks;
  }

  cpu::kv_pages pages() { return {layout, memory.data(), stride}; }
};

float stored(const cpu::kv_layout& layout, float x) {
  return layout.type == dtype::fp32 ? x : cpu::bf16_to_fp32(cpu::fp32_to_bf16(x));
}

/// Runs a sequence in chunks of `chunk` tokens. Blocks wholly before the window become unreadable.
std::vector<float> run(cpu::context& where, const sequence& s, uint32_t chunk, uint32_t window,
                       uint32_t seed) {
  page_pool pool{s.layout, (s.length + s.layout.block_tokens - 1) / s.layout.block_tokens + 3,
                 seed};
  auto table = pool.table(s.length);
  std::vector<float> out(s.q.size());
  for (uint32_t start = 0; start < s.length; start += chunk) {
    const uint32_t count = std::min(chunk, s.length - start);
    const cpu::attention_row row{0, count, start, table.data()};
    if (window > 0)
      for (size_t b = 0; (b + 1) * s.layout.block_tokens + window <= start + 1; ++b)
        table[b] = 0x7fffffff;
    cpu::write_kv(where, pool.pages(), {&row, 1}, s.k.data() + start * s.kv_width(), s.kv_width(),
                  s.v.data() + start * s.kv_width(), s.kv_width());
    cpu::attend(where, pool.pages(), {&row, 1},
                {s.q.data() + start * s.q_width(), s.q_width(), s.heads, 0.3f, window,
                 out.data() + start * s.q_width(), s.q_width()});
  }
  return out;
}

/// Largest difference from softmax(scale * q k) v in double precision, on every `every`-th token.
double worst_error(const sequence& s, uint32_t window, const std::vector<float>& out,
                   uint32_t every = 7) {
  double worst = 0;
  const uint32_t size = s.layout.head_size;
  for (uint32_t t = s.length - 1; t < s.length; t -= every) {
    const uint32_t from = window > 0 && t + 1 > window ? t + 1 - window : 0;
    for (uint32_t h = 0; h < s.heads; ++h) {
      const size_t kv = h / (s.heads / s.layout.kv_heads) * size;
      std::vector<double> weights(t + 1, 0);
      double total = 0;
      for (uint32_t p = from; p <= t; ++p) {
        double score = 0;
        for (uint32_t d = 0; d < size; ++d)
          score += double{s.q[t * s.q_width() + h * size + d]} *
                   stored(s.layout, s.k[p * s.kv_width() + kv + d]);
        total += weights[p] = std::exp(score * double{0.3f});
      }
      for (uint32_t d = 0; d < size; ++d) {
        double sum = 0;
        for (uint32_t p = from; p <= t; ++p)
          sum += weights[p] * stored(s.layout, s.v[p * s.kv_width() + kv + d]);
        const double error = std::abs(sum / total - out[t * s.q_width() + h * size + d]);
        worst = std::isnan(error) ? 1e9 : std::max(worst, error);
      }
    }
  }
  return worst;
}

} // namespace

TEST_CASE("attention equals softmax in double precision for all shapes",
          "[models][cpu][attention]") {
  struct shape {
    uint32_t head_size;
    uint32_t kv_heads;
    uint32_t group;
    uint32_t block_tokens;
    uint32_t length;
    uint32_t window;
  };
  const auto shapes =
      std::vector<shape>{{8, 2, 1, 16, 130, 0},   {16, 1, 3, 8, 70, 0},    {64, 3, 3, 16, 150, 0},
                         {80, 1, 4, 32, 66, 0},   {96, 2, 1, 8, 65, 20},   {128, 1, 8, 16, 64, 0},
                         {256, 1, 1, 32, 40, 9},  {20, 2, 7, 16, 129, 64}, {7, 1, 1, 8, 20, 1},
                         {64, 1, 3, 8, 200, 100}, {64, 1, 40, 16, 33, 0},  {33, 1, 2, 32, 129, 65}};
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (dtype type : {dtype::fp32, dtype::bf16}) {
      for (const auto& x : shapes) {
        const sequence s{
            x.length, x.kv_heads * x.group, {x.kv_heads, x.head_size, x.block_tokens, type}, 11};
        INFO(troupe::test::name_of(level)
             << " head size " << x.head_size << " group " << x.group << " block " << x.block_tokens
             << " window " << x.window << " bytes " << s.layout.element_bytes());
        CHECK(worst_error(s, x.window, run(where, s, 50, x.window, 1)) < 5e-6);
      }
    }
  }
}

TEST_CASE("a query's bits do not depend on chunks, block numbers or threads",
          "[models][cpu][attention]") {
  for (cpu::isa level : cpu::available_isas()) {
    for (dtype type : {dtype::fp32, dtype::bf16}) {
      for (uint32_t window : {0, 50}) {
        for (uint32_t head_size : {64, 40}) {
          for (uint32_t block_tokens : {8, 16, 32}) {
            const sequence s{210, 6, {2, head_size, block_tokens, type}, 5};
            cpu::context alone{1, level};
            const auto expected = run(alone, s, 1, window, 1);
            uint32_t seed = 2;
            for (uint32_t chunk : {7, 16, 33, 64, 210}) {
              cpu::context where{chunk % 3 + 1, level};
              INFO(troupe::test::name_of(level)
                   << " chunk " << chunk << " window " << window << " head size " << head_size
                   << " block " << block_tokens);
              CHECK(same_bits(run(where, s, chunk, window, seed++), expected));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("sequences of one step do not see each other, and may share blocks",
          "[models][cpu][attention]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    const cpu::kv_layout layout{2, 64, 16, dtype::fp32};
    const std::vector<uint32_t> lengths{100, 1, 16, 77, 130, 33};
    std::vector<sequence> sequences;
    for (uint32_t i = 0; i < lengths.size(); ++i)
      sequences.emplace_back(lengths[i], 6, layout, 10 * i);
    // All of a step's tokens lie end to end, q between k and v as a fused product leaves them.
    page_pool pool{layout, 40, 3};
    std::vector<std::vector<uint32_t>> tables;
    std::vector<cpu::attention_row> rows;
    std::vector<float> fused;
    for (uint32_t i = 0; i < lengths.size(); ++i) {
      tables.push_back(pool.table(lengths[i]));
      const auto& s = sequences[i];
      rows.push_back(
          {static_cast<uint32_t>(fused.size() / 640), lengths[i], 0, tables.back().data()});
      for (uint32_t t = 0; t < lengths[i]; ++t) {
        fused.insert(fused.end(), s.k.begin() + t * 128, s.k.begin() + (t + 1) * 128);
        fused.insert(fused.end(), s.q.begin() + t * 384, s.q.begin() + (t + 1) * 384);
        fused.insert(fused.end(), s.v.begin() + t * 128, s.v.begin() + (t + 1) * 128);
      }
    }
    std::vector<float> out(fused.size() / 640 * 384);
    cpu::write_kv(where, pool.pages(), rows, fused.data(), 640, fused.data() + 512, 640);
    cpu::attend(where, pool.pages(), rows, {fused.data() + 128, 640, 6, 0.3f, 0, out.data(), 384});
    for (uint32_t i = 0; i < lengths.size(); ++i) {
      const auto alone = run(where, sequences[i], 1000, 0, 9);
      CHECK(same_bits({out.data() + size_t{rows[i].first_token} * 384, alone.size()}, alone));
    }
    // Two rows that continue sequence 4 from its shared first 128 tokens.
    const auto alone = run(where, sequences[4], 1000, 0, 9);
    auto fork = tables[4];
    fork.back() = pool.table(1).front();
    const std::vector<cpu::attention_row> forked{{0, 2, 128, tables[4].data()},
                                                 {2, 2, 128, fork.data()}};
    std::vector<float> twice;
    for (int i = 0; i < 2; ++i)
      twice.insert(twice.end(), fused.begin() + (rows[4].first_token + 128) * 640,
                   fused.begin() + (rows[4].first_token + 130) * 640);
    std::vector<float> forked_out(4 * 384);
    cpu::write_kv(where, pool.pages(), forked, twice.data(), 640, twice.data() + 512, 640);
    cpu::attend(where, pool.pages(), forked,
                {twice.data() + 128, 640, 6, 0.3f, 0, forked_out.data(), 384});
    for (size_t i = 0; i < 2; ++i)
      CHECK(same_bits({forked_out.data() + i * 768, 768}, {alone.data() + 128 * 384, 768}));
  }
}

TEST_CASE("scores far apart neither overflow nor vanish", "[models][cpu][attention]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{1, level};
    const cpu::kv_layout layout{1, 16, 16, dtype::fp32};
    sequence s{100, 1, layout, 1};
    for (float& x : s.q)
      x *= 1000;
    const auto out = run(where, s, 100, 0, 1);
    CHECK(std::all_of(out.begin(), out.end(), [](float x) { return std::abs(x) <= 1; }));
    // The first token sees only itself.
    CHECK(std::equal(out.begin(), out.begin() + 16, s.v.begin()));
  }
}
