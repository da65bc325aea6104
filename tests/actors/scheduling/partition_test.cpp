#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>
#include <random>

#include "troupe/actors/scheduling/partition.hpp"

using namespace troupe::scheduling;
using parts = std::vector<std::vector<uint32_t>>;

TEST_CASE("the tutorial's lengths are split as its table says", "[actors][partition]") {
  std::vector<uint32_t> lengths{38, 33, 24, 22};
  struct row {
    double max_sparsity;
    parts expected;
    uint64_t padding;
    double sparsity;
  };
  auto r =
      GENERATE(row{0.01, {{0}, {1}, {2}, {3}}, 0, 0.0}, row{0.025, {{0}, {1}, {2, 3}}, 2, 0.0168},
               row{0.1, {{0, 1}, {2, 3}}, 7, 0.0565}, row{0.9, {{0, 1, 2, 3}}, 35, 0.2303});
  auto p = partition(lengths, r.max_sparsity, 4);
  CHECK(p.parts == r.expected);
  CHECK(p.padding == r.padding);
  CHECK(p.sparsity() == Approx(r.sparsity).margin(5e-5));
}

TEST_CASE("never more parts than allowed", "[actors][partition]") {
  std::vector<uint32_t> lengths{38, 33, 24, 22};
  auto p = partition(lengths, 0.0, 2);
  CHECK(p.parts == parts{{0, 1}, {2, 3}});
  CHECK(partition(lengths, 0.0, 1).parts == parts{{0, 1, 2, 3}});
}

TEST_CASE("members keep their places in the unsorted list", "[actors][partition]") {
  std::vector<uint32_t> lengths{22, 38, 24, 33};
  CHECK(partition(lengths, 0.1, 4).parts == parts{{1, 3}, {2, 0}});
}

TEST_CASE("nothing to split and equal lengths need no padding", "[actors][partition]") {
  CHECK(partition({}, 0.3, 3).parts.empty());
  std::vector<uint32_t> equal(5, 7);
  auto p = partition(equal, 0.0, 3);
  CHECK(p.parts.size() == 1);
  CHECK(p.padding == 0);
}

TEST_CASE("each number of parts is split with the least padding", "[actors][partition]") {
  std::mt19937 random{3};
  for (int round = 0; round < 200; ++round) {
    std::vector<uint32_t> lengths(1 + random() % 7);
    for (auto& x : lengths)
      x = 1 + random() % 40;
    auto splits = 1 + random() % 4;
    auto p = partition(lengths, 0.0, static_cast<uint32_t>(splits));
    // All ways to cut the sorted list, by brute force.
    auto sorted = lengths;
    std::sort(sorted.rbegin(), sorted.rend());
    auto best = std::numeric_limits<uint64_t>::max();
    for (uint32_t cuts = 0; cuts < 1u << (sorted.size() - 1); ++cuts) {
      if (static_cast<unsigned>(__builtin_popcount(cuts)) + 1 > splits)
        continue;
      uint64_t padding = 0;
      uint32_t longest = sorted[0];
      for (size_t i = 0; i < sorted.size(); ++i) {
        if (i > 0 && (cuts >> (i - 1) & 1))
          longest = sorted[i];
        padding += longest - sorted[i];
      }
      best = std::min(best, padding);
    }
    CHECK(p.padding == best);
    size_t members = 0;
    for (auto& part : p.parts)
      members += part.size();
    CHECK(members == lengths.size());
  }
}
