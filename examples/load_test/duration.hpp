#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test {

/// "500ms", "2s", "1.5m", "20us", "1h"; a number alone is in seconds. Nothing when it is no time,
/// or more than a year.
std::optional<nanoseconds> parse_duration(std::string_view text);

/// In the largest unit that leaves a number from 1 on: "20 ms", "1.5 s".
std::string show_duration(nanoseconds t);

} // namespace troupe::load_test
