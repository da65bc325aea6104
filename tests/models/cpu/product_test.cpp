#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cpu/packed_matrix.hpp"
#include "troupe/tests/models/cpu/numbers.hpp"

namespace cpu = troupe::models::cpu;
using troupe::models::dtype;
using troupe::test::random_floats;
using troupe::test::same_bits;

namespace {

/// A weight and its packed form.
struct linear {
  size_t n;
  size_t k;
  std::vector<float> w; ///< [n, k], as the kernels see it.
  cpu::weight_arena arena{1 << 20};
  cpu::packed_matrix packed;

  linear(cpu::context& where, size_t n, size_t k, dtype storage)
      : n(n), k(k), w(random_floats(n * k, 7)) {
    if (storage == dtype::bf16)
      for (float& x : w)
        x = cpu::bf16_to_fp32(cpu::fp32_to_bf16(x));
    packed = cpu::packed_matrix{arena, n, k, storage};
    packed.pack(where, {w.data(), dtype::fp32, n, k});
  }
};

std::vector<float> run(cpu::context& where, const linear& l, const float* x, size_t m) {
  std::vector<float> out(m * l.n, std::numeric_limits<float>::quiet_NaN());
  cpu::multiply(where, l.packed, {x, l.k, m, out.data(), l.n});
  return out;
}

/// Largest error of `out` in units of what rounding each of k sums may cost.
double worst_error(const linear& l, const std::vector<float>& x, size_t m,
                   const std::vector<float>& out, bool rounds_x) {
  double worst = 0;
  for (size_t r = 0; r < m; ++r) {
    for (size_t c = 0; c < l.n; ++c) {
      double sum = 0;
      double size = 0;
      for (size_t i = 0; i < l.k; ++i) {
        const float v = x[r * l.k + i];
        const double term =
            double{rounds_x ? cpu::bf16_to_fp32(cpu::fp32_to_bf16(v)) : v} * l.w[c * l.k + i];
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
    for (dtype storage : {dtype::fp32, dtype::bf16}) {
      const bool rounds_x = storage == dtype::bf16 && level == cpu::isa::avx512_bf16;
      for (const auto& [n, k] : shapes) {
        const linear l{where, n, k, storage};
        const auto x = random_floats(80 * k, 3);
        for (size_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 29, 66}) {
          INFO(troupe::test::name_of(level)
               << " n " << n << " k " << k << " m " << m << " bytes " << l.packed.byte_size());
          // Sums of k terms in one chain: their error grows as the square root of k or so.
          CHECK(worst_error(l, x, m, run(where, l, x.data(), m), rounds_x) <
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
      for (dtype storage : {dtype::fp32, dtype::bf16}) {
        if (level == cpu::isa::plain && k > 577)
          continue;
        cpu::context alone{1, level};
        const linear l{alone, 70, k, storage};
        const auto x = random_floats(600 * k, 5);
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
      const linear l{where, 45, 2500, dtype::fp32};
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
    for (dtype storage : {dtype::fp32, dtype::bf16}) {
      for (size_t half : {32, 75}) {
        const size_t k = half == 32 ? 2200 : 90;
        const linear l{where, 2 * half, k, storage};
        cpu::weight_arena arena{1 << 20};
        cpu::packed_matrix gated{arena, 2 * half, k, storage, cpu::column_order::gated};
        gated.pack(where, {l.w.data() + half * k, dtype::fp32, half, k}, half);
        gated.pack(where, {l.w.data(), dtype::fp32, half, k}, 0);
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
    for (dtype storage : {dtype::fp32, dtype::bf16}) {
      const linear l{where, 40, 33, storage};
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
  for (dtype storage : {dtype::fp32, dtype::bf16}) {
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
        cpu::packed_matrix whole{arena, n, k, storage};
        whole.pack(where, {file.data() + 1, type, n, k, transposed, stride});
        CHECK(rows_of(whole) == w);
        // Three sources side by side, in any order.
        cpu::packed_matrix fused{arena, n, k, storage};
        const auto slice = [&](size_t first, size_t count) {
          const size_t offset = (transposed ? first : first * stride) * size;
          fused.pack(where, {file.data() + 1 + offset, type, count, k, transposed, stride}, first);
        };
        slice(41, 34);
        slice(0, 10);
        slice(10, 31);
        CHECK(rows_of(fused) == w);
      }
    }
  }
}

TEST_CASE("bf16 panels hold fp32 weights rounded to nearest even", "[models][cpu][product]") {
  cpu::context where{1, cpu::best_isa()};
  cpu::weight_arena arena{1 << 20};
  const auto w = random_floats(33 * 17);
  cpu::packed_matrix m{arena, 33, 17, dtype::bf16};
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
