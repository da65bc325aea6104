#pragma once

#include <cmath>
#include <cstdint>

namespace troupe::load_test {

/// Mixes 64 bits so that neighbouring inputs give unrelated outputs.
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Draws that are the same on every platform and in every standard library, unlike those of
/// <random>: a seed names a load, wherever it is run.
class random_source {
public:
  explicit random_source(uint64_t seed) : state_{mix(seed)} {}

  uint64_t bits() { return mix(state_ += 0x9e3779b97f4a7c15ULL); }

  /// In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// In [0, limit); 0 for limit 0.
  uint64_t below(uint64_t limit) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits()) * limit) >> 64);
  }

  /// With mean 1.
  double exponential() { return -std::log1p(-uniform()); }

  /// With mean 0 and standard deviation 1.
  double normal();

  /// With mean `shape` (the scale is 1). @pre shape > 0
  double gamma(double shape);

private:
  uint64_t state_;
};

} // namespace troupe::load_test
