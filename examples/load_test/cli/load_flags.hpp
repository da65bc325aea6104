#pragma once

#include <string>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/cli/options.hpp"
#include "troupe/examples/load_test/run/settings.hpp"

/// The flags that say which load there is.
namespace troupe::load_test {

/// A load and its times.
struct timed_load {
  load_plan plan;
  nanoseconds warm_up = 0;
  nanoseconds duration = 0; ///< 0 = until the requests are done.
};

/// Users and rate are left to whoever runs it. Errors: ec::bad_option.
caf::expected<timed_load> load_of(const options& o);

/// A time that was typed for a flag. Errors: ec::bad_option.
caf::expected<nanoseconds> time_of(const char* flag, const std::string& text);

/// "closed loop, 32 users", "open loop, poisson, 12 requests/s"
std::string describe_load(const load_plan& plan);

/// What `--behaviour` means.
struct behaviour_plan {
  manners odd;
  uint32_t storm = 0; ///< Connections at once.
};

/// Errors: ec::bad_option, with what is allowed.
caf::expected<behaviour_plan> parse_behaviour(const std::string& text);

} // namespace troupe::load_test
