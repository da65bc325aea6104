#include <cmath>

#include <catch2/catch.hpp>

#include "troupe/models/cpu/convert.hpp"
#include "troupe/models/cpu/elementwise.hpp"
#include "troupe/tests/models/cpu/numbers.hpp"

namespace cpu = troupe::models::cpu;
using troupe::models::dtype;
using troupe::test::random_floats;

namespace {

constexpr size_t widths[] = {1, 7, 8, 16, 33, 64, 67, 576};

double silu(double x) {
  return x / (1 + std::exp(-x));
}

double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

double gelu(double x) {
  return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}

/// Largest |a - b| / (|b| + floor).
double worst(const std::vector<float>& a, const std::vector<double>& b, double floor = 1e-2) {
  double found = a.size() == b.size() ? 0 : 1e9;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const double error = std::abs(a[i] - b[i]) / (std::abs(b[i]) + floor);
    found = std::isnan(error) ? 1e9 : std::max(found, error);
  }
  return found;
}

} // namespace

TEST_CASE("RMS norm divides by the root of the mean square", "[models][cpu][elementwise]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (size_t width : widths) {
      const size_t rows = 70;
      const auto x = random_floats(rows * (width + 3), 1);
      const auto weight = random_floats(width, 2);
      std::vector<double> expected;
      for (size_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (size_t i = 0; i < width; ++i)
          squares += double{x[r * (width + 3) + i]} * x[r * (width + 3) + i];
        for (size_t i = 0; i < width; ++i)
          expected.push_back(x[r * (width + 3) + i] /
                             std::sqrt(squares / static_cast<double>(width) + 1e-5) * weight[i]);
      }
      cpu::norm_input in;
      in.x = x.data();
      in.x_stride = width + 3;
      in.rows = rows;
      in.width = width;
      std::vector<float> out(rows * width);
      cpu::rms_norm(where, in, weight.data(), 1e-5f, out.data(), width);
      INFO(troupe::test::name_of(level) << " width " << width);
      CHECK(worst(out, expected) < 2e-6);
    }
  }
}

TEST_CASE("layer norm subtracts the mean; what is added first is kept when asked",
          "[models][cpu][elementwise]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (size_t width : widths) {
      if (width == 1)
        continue;
      const size_t rows = 60;
      auto x = random_floats(rows * width, 1);
      for (float& v : x)
        v += 3; // A mean that matters.
      const auto add = random_floats(rows * width, 5);
      const auto weight = random_floats(width, 2);
      const auto bias = random_floats(width, 3);
      std::vector<double> sums;
      std::vector<double> expected;
      for (size_t r = 0; r < rows; ++r) {
        double mean = 0;
        double squares = 0;
        for (size_t i = 0; i < width; ++i) {
          sums.push_back(double{x[r * width + i]} + add[r * width + i]);
          mean += sums.back() / static_cast<double>(width);
        }
        for (size_t i = 0; i < width; ++i)
          squares += std::pow(sums[r * width + i] - mean, 2) / static_cast<double>(width);
        for (size_t i = 0; i < width; ++i)
          expected.push_back((sums[r * width + i] - mean) / std::sqrt(squares + 1e-5) * weight[i] +
                             bias[i]);
      }
      cpu::norm_input in;
      in.x = x.data();
      in.add = add.data();
      in.sum = x.data(); // In place, as a residual stream is.
      in.x_stride = in.add_stride = in.sum_stride = in.width = width;
      in.rows = rows;
      std::vector<float> out(rows * width);
      cpu::layer_norm(where, in, weight.data(), bias.data(), 1e-5f, out.data(), width);
      INFO(troupe::test::name_of(level) << " width " << width);
      CHECK(worst(out, expected, 0.1) < 1e-5);
      CHECK(worst(x, sums) < 1e-6);
    }
  }
}

TEST_CASE("each head is normed by itself, in place", "[models][cpu][elementwise]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    const auto before = random_floats(5 * 100);
    const auto weight = random_floats(20, 2);
    auto x = before;
    cpu::head_norm(where, {x.data() + 10, 100, 5, 3, 20}, weight.data(), 1e-6f);
    auto expected = std::vector<double>(before.begin(), before.end());
    for (size_t t = 0; t < 5; ++t) {
      for (size_t h = 0; h < 3; ++h) {
        double squares = 0;
        for (size_t i = 0; i < 20; ++i)
          squares += std::pow(expected[t * 100 + 10 + h * 20 + i], 2);
        for (size_t i = 0; i < 20; ++i)
          expected[t * 100 + 10 + h * 20 + i] *= weight[i] / std::sqrt(squares / 20 + 1e-6);
      }
    }
    CHECK(worst(x, expected) < 2e-6);
  }
}

TEST_CASE("rotary turns pairs by position times frequency, in halves or interleaved",
          "[models][cpu][elementwise]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    for (size_t half : {4, 10, 16, 32}) {
      for (bool interleaved : {false, true}) {
        const size_t size = 2 * half + 6; // The last six dimensions are not rotated.
        const std::vector<uint32_t> positions{0, 1, 500, 7};
        std::vector<float> frequencies(half);
        for (size_t i = 0; i < half; ++i)
          frequencies[i] = static_cast<float>(
              std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)));
        std::vector<float> cos(4 * half);
        std::vector<float> sin(4 * half);
        cpu::rotary_table(positions, frequencies, 1.5f, cos.data(), sin.data());
        const auto before = random_floats(4 * 3 * size);
        auto x = before;
        cpu::rotary(where, {x.data(), 3 * size, 4, 3, size}, cos.data(), sin.data(), half,
                    interleaved);
        auto expected = std::vector<double>(before.begin(), before.end());
        for (size_t t = 0; t < 4; ++t) {
          for (size_t h = 0; h < 3; ++h) {
            for (size_t i = 0; i < half; ++i) {
              const double angle = static_cast<float>(positions[t]) * frequencies[i];
              double* pair = expected.data() + (t * 3 + h) * size;
              double& a = pair[interleaved ? 2 * i : i];
              double& b = pair[interleaved ? 2 * i + 1 : i + half];
              const double turned = 1.5 * (a * std::cos(angle) - b * std::sin(angle));
              b = 1.5 * (b * std::cos(angle) + a * std::sin(angle));
              a = turned;
            }
          }
        }
        INFO(troupe::test::name_of(level) << " half " << half << " interleaved " << interleaved);
        CHECK(worst(x, expected, 1) < 2e-6);
      }
    }
  }
}

TEST_CASE("activations are exact to a few units in the last place over their whole range",
          "[models][cpu][elementwise]") {
  std::vector<float> x;
  for (float v = -80; v < 80; v += 0.037f)
    x.push_back(v);
  for (float v : {0.0f, -0.0f, 1e-8f, -1e-8f, 87.5f, 100.0f, 1e30f})
    x.push_back(v);
  const auto up = random_floats(x.size(), 4);
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context where{2, level};
    std::vector<float> both(x);
    both.insert(both.end(), up.begin(), up.end());
    const auto check = [&](cpu::activation_kind kind, double (*f)(double), double floor,
                           double limit) {
      std::vector<double> expected;
      for (float v : x)
        expected.push_back(f(v));
      std::vector<float> out(x.size());
      cpu::activate(where, kind, x.data(), x.size(), 1, x.size(), out.data(), x.size());
      INFO(troupe::test::name_of(level) << " activation " << static_cast<int>(kind));
      CHECK(worst(out, expected, floor) < limit);
      cpu::gated_activation(where, kind, both.data(), both.size(), 1, x.size(), out.data(),
                            x.size());
      for (size_t i = 0; i < x.size(); ++i)
        expected[i] *= up[i];
      CHECK(worst(out, expected, floor) < limit);
    };
    // Relative error throughout: silu of -80 is -80 * e^-80, which shows the error of our e^x.
    check(cpu::activation_kind::silu, silu, 1e-36, 1e-6);
    check(cpu::activation_kind::gelu_tanh, gelu_tanh, 1e-1, 1e-6);
    check(cpu::activation_kind::gelu, gelu, 1e-1, 1e-6);
    check(
        cpu::activation_kind::relu, [](double v) { return v > 0 ? v : 0; }, 1e-30, 1e-7);
    const float far = -200;
    float out = 1;
    cpu::activate(where, cpu::activation_kind::silu, &far, 1, 1, 1, &out, 1);
    CHECK(std::abs(out) < 1e-30f);
    const float nan = NAN;
    cpu::activate(where, cpu::activation_kind::silu, &nan, 1, 1, 1, &out, 1);
    CHECK(std::isnan(out));
  }
}

TEST_CASE("a row's result does not depend on the rows beside it or on threads",
          "[models][cpu][elementwise]") {
  for (cpu::isa level : cpu::available_isas()) {
    cpu::context one{1, level};
    cpu::context three{3, level};
    const size_t rows = 300;
    const size_t width = 301;
    const auto x = random_floats(rows * width);
    std::vector<float> together(rows * width);
    std::vector<float> alone(rows * width);
    cpu::norm_input in;
    in.x = x.data();
    in.x_stride = in.width = width;
    in.rows = rows;
    cpu::layer_norm(three, in, nullptr, nullptr, 1e-5f, together.data(), width);
    in.rows = 1;
    for (size_t r = 0; r < rows; ++r) {
      in.x = x.data() + r * width;
      cpu::layer_norm(one, in, nullptr, nullptr, 1e-5f, alone.data() + r * width, width);
    }
    CHECK(troupe::test::same_bits(together, alone));
  }
}

TEST_CASE("embedding widens every dtype and adds learned positions", "[models][cpu][elementwise]") {
  cpu::context where{2, cpu::best_isa()};
  const size_t width = 300;
  auto table = random_floats(11 * width);
  auto places = random_floats(9 * width, 2);
  for (auto* t : {&table, &places})
    for (float& v : *t)
      v = std::round(v * 8) / 8; // Exact in all three types.
  const std::vector<int32_t> ids{10, 0, 3};
  const std::vector<uint32_t> positions{8, 1, 0};
  for (dtype type : {dtype::fp32, dtype::bf16, dtype::fp16}) {
    std::vector<std::byte> packed(table.size() * 4);
    std::vector<std::byte> packed_places(places.size() * 4);
    cpu::narrow(table.data(), table.size(), type, packed.data());
    cpu::narrow(places.data(), places.size(), type, packed_places.data());
    std::vector<float> out(3 * width);
    cpu::embed(where, packed.data(), type, ids, width, out.data(), width, packed_places.data(),
               type, positions);
    for (size_t t = 0; t < 3; ++t)
      for (size_t i = 0; i < width; ++i)
        REQUIRE(out[t * width + i] ==
                table[static_cast<size_t>(ids[t]) * width + i] + places[positions[t] * width + i]);
    cpu::embed(where, packed.data(), type, ids, width, out.data(), width);
    CHECK(out[0] == table[10 * width]);
    const std::vector<float> bias(width, 2);
    cpu::add_bias(where, out.data(), width, bias.data(), 3, width, out.data(), width);
    CHECK(out[0] == table[10 * width] + 2);
  }
}
