#pragma once

#include <cstdint>
#include <optional>

namespace troupe::scheduling {

/// How much longer (ns) a step stays behind that the device does not need yet, so that newcomers
/// can join it. Early enough for the device not to wait: by a millisecond, or an eighth of what it
/// is at, because predictions are no better than that. Nothing: it leaves now. UINT64_MAX: with the
/// next result, since nobody knows how long steps take.
/// @param expected_ns What the device needs for all that it was given; 0 = unknown.
/// @param since_ns    How long it has been at it.
std::optional<uint64_t> time_to_departure(double expected_ns, uint64_t since_ns);

} // namespace troupe::scheduling
