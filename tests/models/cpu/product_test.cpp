#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cpu/packed_matrix.hpp"
#include "troupe/tests/models/cpu/numbers.hpp"

namespace cpu = troupe::models::cpu;
using cpu::panel_format;
using troupe::models::dtype;
using troupe::test::random_floats;
using troupe::test::same_bits;

namespace {

constexpr panel_format all_formats[] = {panel_format::fp32, panel_format::bf16, panel_format::int8,
                                        panel_format::fp4};

bool is_quantized(panel_format format) {
  return format == panel_format::int8 || format == panel_format::fp4;
}

/// A weight and its packed form.
struct linear {
  size_t n;
  size_t k;
  std::vector<float> source; ///< [n, k]
  std::vector<float> w;      ///< As the kernels see it.
  cpu::weight_arena arena{1 << 20};
  cpu::packed_matrix packed;

  linear(cpu::context& where, size_t n, size_t k, panel_format format)
      : n(n), k(k), source(random_floats(n * k, 7)), w(n * k) {
    packed = cpu::packed_matrix{arena, n, k, format};
    packed.pack(where, {source.data(), dtype::fp32, n, k});
    // Exact where nothing is rounded; what quantizing makes of the values has a test of its own.
    for (size_t row = 0; row < n; ++row)
      packed.unpack_row(row, w.data() + row * k);
  }
};

std::vector<float> run(cpu::context& where, const linear& l, const float* x, size_t m) {
  std::vector<float> out(m * l.n, std::numeric_limits<float>::quiet_NaN());
  cpu::multiply(where, l.packed, {x, l.k, m, out.data(), l.n});
  return out;
}

/// A row of x as the product takes it.
std::vector<double> taken_x(panel_format format, cpu::isa level, const float* x, size_t k) {
  std::vector<double> taken(x, x + k);
  if (format == panel_format::bf16 && level == cpu::isa::avx512_bf16)
    for (auto& v : taken)
      v = cpu::bf16_to_fp32(cpu::fp32_to_bf16(static_cast<float>(v)));
  if (format != panel_format::int8)
    return taken;
  const auto half = [](double v) {
    return double{cpu::fp16_to_fp32(cpu::fp32_to_fp16(static_cast<float>(v)))};
  };
  double largest = 0;
  for (double v : taken)
    if (std::abs(half(v)) < 6)
      largest = std::max(largest, std::abs(half(v)));
  const float factor = troupe::models::int8_factor(static_cast<float>(largest));
  for (auto& v : taken)
    if (std::abs(half(v)) < 6)
      v = std::nearbyint(static_cast<float>(half(v)) * factor) * largest / 127;
  return taken;
}

/// Largest error of `out` in units of what rounding each of k sums may cost.
double worst_error(const linear& l, const std::vector<float>& x, size_t m,
                   const std::vector<float>& out, cpu::isa level) {
  double worst = 0;
  for (size_t r = 0; r < m; ++r) {
    const auto row = taken_x(l.packed.format(), level, x.data() + r * l.k, l.k);
    for (size_t c = 0; c < l.n; ++c) {
      double sum = 0;
      double size = 0;
      for (size_t i = 0; i < l.k; ++i) {
        const double term = row[i] * l.w[c * l.k + i];
        sum += term;
        size += std::abs(term);
      }
      const double error = std::abs(sum - out[r * l.n + c]);
      worst = std::max(worst, std::isnan(out[r * l.n + c]) ? 1e9 : error / (size * 0x1p-24 * 4));
    }
  }
  return worst;
}

} // namespace

TEST_CASE("a product equals the sums in double precision but for rounding",
          "[models][cpu][product]") {
  const auto shapes = std::vector<std::pair<size_t, size_t>>{
      {1, 1}, {5, 3}, {31, 8}, {32, 64}, {33, 65}, {95, 129}, {64, 300}};
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (panel_format format : all_formats) {
      for (const auto& [n, k] : shapes) {
        const linear l{where, n, k, format};
        auto x = random_floats(80 * k, 3);
        // Outliers, of which most rows have one and some have none.
        for (size_t i = 0; i < x.size(); i += 37)
          x[i] *= 40;
        for (size_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 29, 66}) {
          INFO(troupe::test::name_of(level)
               << " n " << n << " k " << k << " m " << m << " bytes " << l.packed.byte_size());
          // Sums of k terms in one chain: their error grows as the square root of k or so.
          CHECK(worst_error(l, x, m, run(where, l, x.data(), m), level) <
                1 + 0.1 * static_cast<double>(k));
        }
      }
    }
  }
}

TEST_CASE("a row's bits do not depend on rows beside it, on its place or on threads",
          "[models][cpu][product]") {
  // 4500: several stretches of k; 577: odd; 1536: weights exceed the L1 share.
  for (size_t k : {577, 1536, 4500}) {
    for (cpu::isa level : cpu::available_isas()) {
      for (panel_format format : all_formats) {
        if (level == cpu::isa::plain && k > 577)
          continue;
        cpu::context alone{1, level};
        const linear l{alone, 70, k, format};
        auto x = random_floats(600 * k, 5);
        for (size_t i = 0; i < x.size(); i += 1031)
          x[i] *= 40;
        std::vector<float> expected;
        for (size_t r = 0; r < 600; r += r < 40 ? 1 : 56) {
          const auto one = run(alone, l, x.data() + r * k, 1);
          expected.resize(r * l.n);
          expected.insert(expected.end(), one.begin(), one.end());
        }
        for (unsigned threads : {1, 2, 3}) {
          cpu::context where{threads, level};
          for (size_t m : {2, 5, 14, 15, 16, 32, 40, 64, 65, 150, 512}) {
            // The longest sums with the fewest rows that still are cut in every way.
            if (k > 2000 && (m > 150 || threads != 2))
              continue;
            for (size_t shift : {0, 3}) {
              INFO(troupe::test::name_of(level)
                   << " k " << k << " m " << m << " shift " << shift << " threads " << threads);
              const auto out = run(where, l, x.data() + shift * k, m);
              bool same = true;
              for (size_t r = 0; r < m; ++r) {
                const size_t row = r + shift;
                if (row < 40 || (row - 40) % 56 == 0)
                  same = same &&
                         same_bits({out.data() + r * l.n, l.n}, {expected.data() + row * l.n, l.n});
              }
              CHECK(same);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("bias and residual are added once, the residual may be the output itself",
          "[models][cpu][product]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (size_t m : {1, 9, 130}) {
      const linear l{where, 45, 2500, panel_format::fp32};
      const auto x = random_floats(m * l.k, 2);
      const auto bias = random_floats(l.n, 3);
      const auto residual = random_floats(m * 50, 4);
      const auto bare = run(where, l, x.data(), m);
      auto out = residual;
      cpu::multiply(where, l.packed,
                    {x.data(), l.k, m, out.data(), 50, bias.data(), out.data(), 50});
      bool right = true;
      for (size_t r = 0; r < m; ++r)
        for (size_t c = 0; c < 50; ++c)
          right = right &&
                  out[r * 50 + c] == (c < l.n ? bare[r * l.n + c] + bias[c] + residual[r * 50 + c]
                                              : residual[r * 50 + c]);
      INFO(troupe::test::name_of(level) << " m " << m);
      CHECK(right); // Nothing behind a row's end is touched either.
    }
  }
}

TEST_CASE("a gated product has the bits of a plain one followed by the activation",
          "[models][cpu][product]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (panel_format format : all_formats) {
      for (size_t half : {32, 75}) {
        const size_t k = half == 32 ? 2200 : 90;
        linear l{where, 2 * half, k, format};
        cpu::weight_arena arena{1 << 20};
        cpu::packed_matrix gated{arena, 2 * half, k, format, cpu::column_order::gated};
        for (auto* matrix : {&gated, &l.packed}) {
          matrix->pack(where, {l.source.data() + half * k, dtype::fp32, half, k}, half);
          matrix->pack(where, {l.source.data(), dtype::fp32, half, k}, 0);
        }
        for (size_t i = 0; i < 2 * half; ++i)
          l.packed.unpack_row(i, l.w.data() + i * k);
        std::vector<float> row(k);
        for (size_t i : {size_t{0}, half - 1, half, 2 * half - 1}) {
          gated.unpack_row(i, row.data());
          CHECK(same_bits(row, {l.w.data() + i * k, k}));
        }
        const auto bias = random_floats(2 * half, 8);
        for (size_t m : {1, 15, 70}) {
          const auto x = random_floats(m * k, 9);
          for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
            for (auto kind : {cpu::activation_kind::silu, cpu::activation_kind::gelu}) {
              std::vector<float> wide(m * 2 * half);
              cpu::multiply(where, l.packed, {x.data(), k, m, wide.data(), 2 * half, b});
              std::vector<float> expected(m * half);
              cpu::gated_activation(where, kind, wide.data(), 2 * half, m, half, expected.data(),
                                    half);
              std::vector<float> out(m * half);
              cpu::multiply(where, gated, {x.data(), k, m, out.data(), half, b, nullptr, 0, kind});
              std::vector<float> ungated(m * 2 * half);
              cpu::multiply(where, gated, {x.data(), k, m, ungated.data(), 2 * half, b});
              INFO(troupe::test::name_of(level)
                   << " half " << half << " m " << m << " bias " << (b != nullptr));
              CHECK(same_bits(out, expected));
              CHECK(same_bits(ungated, wide));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a row of NaNs spoils no other row", "[models][cpu][product]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{1, level};
    for (panel_format format : all_formats) {
      const linear l{where, 40, 33, format};
      auto x = random_floats(6 * l.k);
      const auto expected = run(where, l, x.data(), 6);
      std::fill_n(x.begin() + 2 * 33, 33, std::numeric_limits<float>::quiet_NaN());
      const auto out = run(where, l, x.data(), 6);
      for (size_t r = 0; r < 6; ++r)
        if (r != 2)
          CHECK(same_bits({out.data() + r * l.n, l.n}, {expected.data() + r * l.n, l.n}));
      CHECK(std::isnan(out[2 * l.n]));
    }
  }
}

TEST_CASE("every form of source packs the same matrix", "[models][cpu][product]") {
  cpu::context where{2, cpu::best_isa()};
  const size_t n = 75;
  const size_t k = 131;
  // Multiples of 1/8 are exact in all three types.
  auto w = random_floats(n * k);
  for (float& x : w)
    x = std::round(x * 8) / 8;
  cpu::weight_arena arena{1 << 20};
  const auto rows_of = [&](const cpu::packed_matrix& m) {
    std::vector<float> rows(n * k);
    for (size_t i = 0; i < n; ++i)
      m.unpack_row(i, rows.data() + i * k);
    return rows;
  };
  for (panel_format format : all_formats) {
    std::vector<float> expected;
    for (dtype type : {dtype::fp32, dtype::bf16, dtype::fp16}) {
      const size_t size = type == dtype::fp32 ? 4 : 2;
      for (bool transposed : {false, true}) {
        // At an odd address and with a gap behind each row, as a slice of a mapped file may be.
        const size_t rows = transposed ? k : n;
        const size_t columns = transposed ? n : k;
        const size_t stride = columns + 5;
        std::vector<std::byte> file(rows * stride * size + 1);
        for (size_t r = 0; r < rows; ++r) {
          std::vector<float> row(columns);
          for (size_t c = 0; c < columns; ++c)
            row[c] = transposed ? w[c * k + r] : w[r * k + c];
          std::vector<std::byte> narrow(columns * size);
          cpu::narrow(row.data(), columns, type, narrow.data());
          std::copy(narrow.begin(), narrow.end(),
                    file.begin() + 1 + static_cast<long>(r * stride * size));
        }
        cpu::packed_matrix whole{arena, n, k, format};
        whole.pack(where, {file.data() + 1, type, n, k, transposed, stride});
        if (expected.empty())
          expected = is_quantized(format) ? rows_of(whole) : w;
        CHECK(rows_of(whole) == expected);
        // Matrices beside each other have blocks of their own.
        if (format == panel_format::fp4)
          continue;
        // Three sources side by side, in any order.
        cpu::packed_matrix fused{arena, n, k, format};
        const auto slice = [&](size_t first, size_t count) {
          const size_t offset = (transposed ? first : first * stride) * size;
          fused.pack(where, {file.data() + 1 + offset, type, count, k, transposed, stride}, first);
        };
        slice(41, 34);
        slice(0, 10);
        slice(10, 31);
        CHECK(rows_of(fused) == expected);
      }
    }
  }
}

TEST_CASE("bf16 panels hold fp32 weights rounded to nearest even", "[models][cpu][product]") {
  cpu::context where{1, cpu::best_isa()};
  cpu::weight_arena arena{1 << 20};
  const auto w = random_floats(33 * 17);
  cpu::packed_matrix m{arena, 33, 17, panel_format::bf16};
  m.pack(where, {w.data(), dtype::fp32, 33, 17});
  std::vector<int32_t> ids{32, 0, 5, 5};
  std::vector<float> rows(ids.size() * 20, 9);
  cpu::gather_rows(where, m, ids, rows.data(), 20);
  for (size_t i = 0; i < ids.size(); ++i) {
    for (size_t c = 0; c < 17; ++c)
      CHECK(rows[i * 20 + c] ==
            cpu::bf16_to_fp32(cpu::fp32_to_bf16(w[static_cast<size_t>(ids[i]) * 17 + c])));
    CHECK(rows[i * 20 + 17] == 9);
  }
}

TEST_CASE("int8 panels hold each row in codes of its largest weight", "[models][cpu][product]") {
  cpu::context where{1, cpu::best_isa()};
  const linear l{where, 33, 70, panel_format::int8};
  for (size_t row = 0; row < l.n; ++row) {
    float largest = 0;
    for (size_t i = 0; i < l.k; ++i)
      largest = std::max(largest,
                         std::abs(cpu::fp16_to_fp32(cpu::fp32_to_fp16(l.source[row * l.k + i]))));
    double worst = 0;
    for (size_t i = 0; i < l.k; ++i)
      worst = std::max(worst, std::abs(double{l.source[row * l.k + i]} - l.w[row * l.k + i]));
    CHECK(worst <= largest / 127 * 0.5 + 0.0005);
    CHECK(worst > 0);
  }
}

TEST_CASE("fp4 panels hold blocks of 64 that run over the ends of rows", "[models][cpu][product]") {
  cpu::context where{2, cpu::best_isa()};
  for (size_t k : {64, 192, 48, 40, 33}) {
    linear l{where, 200, k, panel_format::fp4};
    bool right = true;
    for (size_t i = 0; i < l.w.size(); ++i) {
      const size_t begin = i / 64 * 64;
      float largest = 0;
      for (size_t at = begin; at < std::min(begin + 64, l.w.size()); ++at)
        largest = std::max(largest, std::abs(l.source[at]));
      const auto code = troupe::models::fp4_code(l.source[i] * (1 / largest));
      right = right && l.w[i] == troupe::models::fp4_values[code] * largest;
    }
    INFO("k " << k);
    CHECK(right);
  }
}

TEST_CASE("weights of zero, huge ones and NaNs are packed without harm", "[models][cpu][product]") {
  for (cpu::isa level : cpu::available_isas())
    for (panel_format format : {panel_format::int8, panel_format::fp4})
      for (float value : {0.0f, 1e38f, -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
        cpu::context where{1, level};
        cpu::weight_arena arena{1 << 20};
        cpu::packed_matrix m{arena, 40, 64, format};
        std::vector<float> w(40 * 64);
        std::fill_n(w.begin(), 64, value);
        m.pack(where, {w.data(), dtype::fp32, 40, 64});
        const auto x = random_floats(64);
        std::vector<float> out(40, 1);
        cpu::multiply(where, m, {x.data(), 64, 1, out.data(), 40});
        CHECK(std::all_of(out.begin() + 1, out.end(), [](float v) { return v == 0; }));
        if (value == 0)
          CHECK(out[0] == 0);
      }
}

TEST_CASE("an arena aligns its pieces, zeroes them and outgrows its chunks",
          "[models][cpu][product]") {
  cpu::weight_arena arena{1 << 20};
  for (size_t bytes : {size_t{1}, size_t{100}, size_t{700000}, size_t{5} << 20, size_t{64}}) {
    auto* piece = static_cast<unsigned char*>(arena.allocate(bytes));
    REQUIRE(piece != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(piece) % 64 == 0);
    CHECK(std::all_of(piece, piece + bytes, [](unsigned char x) { return x == 0; }));
    std::fill(piece, piece + bytes, 0xab);
  }
  CHECK(arena.allocated_bytes() >= (size_t{5} << 20));
  CHECK(arena.allocate(size_t{1} << 60) == nullptr);
}
