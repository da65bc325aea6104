#include "troupe/examples/load_test/random.hpp"

#include <numbers>

namespace troupe::load_test {

double random_source::normal() {
  auto radius = std::sqrt(2 * exponential());
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

/// Source: Marsaglia, Tsang, "A simple method for generating gamma variables" (2000).
double random_source::gamma(double shape) {
  if (shape < 1)
    return gamma(shape + 1) * std::pow(1 - uniform(), 1 / shape);
  auto d = shape - 1.0 / 3;
  auto c = 1 / std::sqrt(9 * d);
  for (;;) {
    auto x = normal();
    auto v = std::pow(1 + c * x, 3);
    if (v <= 0)
      continue;
    auto u = 1 - uniform();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v))
      return d * v;
  }
}

} // namespace troupe::load_test
