#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test::report {

/// Reads objectives as the command line takes them: "ttft_p99=500ms,itl_p99=60ms". A name is one of
/// ttft, itl, tpot, e2e, then `_p` and a percentile above 0 and below 100 (p50, p99, p99.9), or
/// `_max`; a bound is a number above 0 with its unit us, ms or s. Errors: ec::bad_option, which
/// says what was read and what is allowed; a name given twice is one.
caf::expected<std::vector<objective>> parse_objectives(std::string_view text);

/// "ttft", "itl", "tpot", "e2e"
const char* name_of(objective::latency x);

/// "p99", "p99.9", "max"
std::string percentile_name(double percentile);

/// "ttft_p99=500ms": reads back as the same objective.
std::string to_string(const objective& x);

/// What became of one objective.
struct objective_verdict {
  objective goal;
  /// What was measured; empty when there is no finite value: nothing was measured, or more requests
  /// failed than the percentile leaves room for.
  std::optional<double> measured_ms;
  bool met = false;
  std::string why; ///< Where `measured_ms` does not say it all; else empty.
};

} // namespace troupe::load_test::report
