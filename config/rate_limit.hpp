#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace troupe::config {

/// So many events within any stretch of time of that length are allowed.
struct rate_limit {
  uint32_t most = 0;
  std::chrono::milliseconds window{60'000};
};

/// Reads `N` or `N/DURATION`, the duration in ISO 8601 as Java's Duration.parse takes it (days to
/// seconds, fractions of seconds): "10", "10/PT30S", "100/P1DT2H", in any case. Without one it is a
/// minute. Nothing for any other text, and for durations of less than a millisecond or more than
/// ten years.
std::optional<rate_limit> parse_rate_limit(std::string_view text);

} // namespace troupe::config
