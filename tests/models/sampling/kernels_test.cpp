#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <limits>

#include "troupe/models/sampling/row_kernels.hpp"

#include "fixtures.hpp"

using namespace troupe::models;
using namespace troupe::models::sampling;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct passes {
  std::vector<float> maxima, divided, divided_max, weights;
  std::vector<double> sums;
  double total = 0, stored_total = 0, summed_total = 0;
};

passes run(const row_kernels& table, const std::vector<float>& row, float highest) {
  const size_t count = row.size(), blocks = blocks_of(count);
  passes p{std::vector<float>(blocks), std::vector<float>(count), std::vector<float>(blocks),
           std::vector<float>(count), std::vector<double>(blocks)};
  table.block_max(row.data(), count, p.maxima.data());
  table.divide(row.data(), count, 0.7f, p.divided.data(), p.divided_max.data());
  p.total = table.exp_sum(row.data(), count, highest);
  p.stored_total = table.exp_store(row.data(), count, highest, p.weights.data(), p.sums.data());
  const auto stored = p.sums;
  p.summed_total = table.sum(p.weights.data(), count, p.sums.data());
  CHECK(p.sums == stored);
  return p;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

} // namespace

TEST_CASE("every instruction set gives the same bits", "[models][sampling]") {
  for (const size_t count : {1u, 15u, 127u, 128u, 129u, 1000u, 49152u}) {
    auto row = test::random_row(count, 4);
    row[count / 2] = -infinity;
    const float highest = *std::max_element(row.begin(), row.end());
    if (!std::isfinite(highest))
      continue;
    const auto expected = run(plain_kernels, row, highest);
    for (const auto* table : available_kernels()) {
      CAPTURE(count, table->name);
      const auto got = run(*table, row, highest);
      CHECK(same_bits(got.maxima, expected.maxima));
      CHECK(same_bits(got.divided, expected.divided));
      CHECK(same_bits(got.divided_max, expected.divided_max));
      CHECK(same_bits(got.weights, expected.weights));
      CHECK(same_bits(got.sums, expected.sums));
      CHECK(got.total == expected.total);
      CHECK(got.stored_total == expected.total);
      CHECK(got.summed_total == expected.total);
    }
  }
}

TEST_CASE("exponentials are right to about one part in ten million", "[models][sampling]") {
  std::vector<float> row;
  for (float x = 0; x > -86.5f; x -= 0.0131f)
    row.push_back(x);
  std::vector<float> weights(row.size());
  std::vector<double> sums(blocks_of(row.size()));
  plain_kernels.exp_store(row.data(), row.size(), 0, weights.data(), sums.data());
  double worst = 0;
  for (size_t i = 0; i < row.size(); ++i)
    worst = std::max(worst, std::abs(weights[i] / std::exp(double{row[i]}) - 1));
  CHECK(worst < 2e-7);
}

TEST_CASE("NaN reaches the sum, and -inf counts as nothing", "[models][sampling]") {
  for (const auto* table : available_kernels()) {
    CAPTURE(table->name);
    for (const size_t place : {0u, 77u, 128u, 140u}) {
      std::vector<float> row(141, -1.0f);
      row[place] = std::nanf("");
      CHECK(std::isnan(table->exp_sum(row.data(), row.size(), 0)));
      row[place] = -infinity;
      CHECK(table->exp_sum(row.data(), row.size(), -1) == 140.0);
    }
  }
}
