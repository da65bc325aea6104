#include <catch2/catch.hpp>

#include <algorithm>
#include <numeric>

#include "troupe/models/sampling/row_kernels.hpp"
#include "troupe/models/sampling/selection.hpp"

#include "fixtures.hpp"

using namespace troupe::models;
using namespace troupe::models::sampling;

namespace {

struct row_with_maxima {
  std::vector<float> values, maxima;
  explicit row_with_maxima(std::vector<float> row)
      : values(std::move(row)), maxima(blocks_of(values.size())) {
    plain_kernels.block_max(values.data(), values.size(), maxima.data());
  }
  row_view view() const { return {values, maxima}; }
};

std::vector<uint32_t> sorted_descending(const std::vector<float>& values) {
  std::vector<uint32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return values[a] > values[b]; });
  return order;
}

uint32_t crossing_by_sorting(const std::vector<float>& keys, const std::vector<float>& masses,
                             const running_mass& rule) {
  std::vector<uint32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return keys[a] < keys[b]; });
  double sum = rule.base;
  for (const auto i : order)
    if (rule.reached(sum += masses[i]))
      return i;
  return not_reached;
}

/// Rounded, so that many values tie.
std::vector<float> coarse(std::vector<float> row) {
  for (auto& value : row)
    value = std::round(value * 4) / 4;
  return row;
}

} // namespace

TEST_CASE("the largest values come out as from a full sort, ties by id", "[models][sampling]") {
  selection_scratch scratch;
  std::vector<uint32_t> found;
  for (const auto& values : {test::random_row(1000, 1), coarse(test::random_row(1000, 2)),
                             std::vector<float>(1000, 0.5f), test::random_row(5, 3)}) {
    const row_with_maxima row{values};
    const auto expected = sorted_descending(values);
    CHECK(row.view().top() == std::pair{values[expected[0]], expected[0]});
    for (const size_t count : {1u, 2u, 5u, 8u, 9u, 100u, 999u, 1000u, 4000u}) {
      CAPTURE(values.size(), count);
      largest(row.view(), count, scratch, found);
      const size_t some = std::min(count, values.size());
      CHECK(found == std::vector<uint32_t>(expected.begin(),
                                           expected.begin() + static_cast<ptrdiff_t>(some)));
      CHECK(kth_largest(row.view(), some, scratch) == values[expected[some - 1]]);
    }
  }
}

TEST_CASE("the crossing of a running mass is where a full sort finds it", "[models][sampling]") {
  selection_scratch scratch;
  const std::vector<float> geometric = [] {
    std::vector<float> keys(5000);
    float value = 1;
    for (auto& key : keys)
      key = value = value * 0.99f + 1e-30f; // Most of it falls into one bucket, again and again.
    return keys;
  }();
  auto huge = test::random_row(3000, 8);
  huge[17] = 3e38f;
  huge[18] = -3e38f;
  for (const auto& keys : {test::random_row(3000, 5), coarse(test::random_row(3000, 6)), geometric,
                           huge, std::vector<float>(3000, 1.0f), test::random_row(20, 7)}) {
    // Multiples of 2^-20 add up exactly in any order.
    std::vector<float> masses(keys.size());
    for (size_t i = 0; i < masses.size(); ++i)
      masses[i] = static_cast<float>(i * 7919 % 64) * 0x1p-18f;
    const double total = std::accumulate(masses.begin(), masses.end(), 0.0);
    for (const float share : {0.0f, 0.001f, 0.1f, 0.5f, 0.9f, 0.9999f, 1.0f, 2.0f})
      for (const bool strict : {true, false})
        for (const double base : {0.0, 0.03125}) {
          const running_mass rule{base, static_cast<float>(total * share), strict};
          CAPTURE(keys.size(), share, strict, base);
          CHECK(find_crossing(keys, masses, rule, scratch) ==
                crossing_by_sorting(keys, masses, rule));
        }
  }
}
