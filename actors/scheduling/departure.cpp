#include "troupe/actors/scheduling/departure.hpp"

#include <algorithm>

namespace troupe::scheduling {

namespace {

constexpr double least_lead_ns = 1e6;
constexpr double lead_share = 1.0 / 8;

} // namespace

std::optional<uint64_t> time_to_departure(double expected_ns, uint64_t since_ns) {
  if (expected_ns <= 0)
    return UINT64_MAX;
  const auto lead = std::max(least_lead_ns, expected_ns * lead_share);
  const auto left = expected_ns - lead - static_cast<double>(since_ns);
  if (left <= 0)
    return std::nullopt;
  return static_cast<uint64_t>(left);
}

} // namespace troupe::scheduling
