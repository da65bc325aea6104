#include <catch2/catch.hpp>

#include <set>

#include "troupe/models/sampling/philox.hpp"

using namespace troupe::models;

namespace {
using words = std::array<uint32_t, 4>;
}

TEST_CASE("Philox gives Random123's known answers", "[models][sampling]") {
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) ==
        words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a uniform number depends on every bit of seed, sequence and position",
          "[models][sampling]") {
  CHECK(philox_uniform(0, 0, 0) == static_cast<double>(0x6627e8d5e169c58dull >> 11) * 0x1p-53);
  std::set<double> seen;
  for (int bit = 0; bit < 64; ++bit)
    seen.insert(philox_uniform(uint64_t{1} << bit, 0, 0));
  for (int bit = 0; bit < 32; ++bit) {
    seen.insert(philox_uniform(0, 1u << bit, 0));
    seen.insert(philox_uniform(0, 0, 1u << bit));
  }
  CHECK(seen.size() == 128);
  CHECK(*seen.begin() >= 0.0);
  CHECK(*seen.rbegin() < 1.0);
}
