#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/random.hpp"

namespace troupe::load_test {

/// How many tokens a request has or asks for: one number, or drawn from a distribution.
struct length_distribution {
  enum class shape : uint8_t { fixed, uniform, normal, exponential };
  shape kind = shape::fixed;
  double first = 0;  ///< The number; the lower end; the mean.
  double second = 0; ///< The upper end; the standard deviation.

  /// At least 1, except for a fixed 0.
  uint32_t draw(random_source& random) const;
};

/// "64", "uniform:16:128", "normal:64:16", "exponential:64". Errors: ec::bad_option, with what is
/// allowed.
caf::expected<length_distribution> parse_lengths(std::string_view text);

} // namespace troupe::load_test
