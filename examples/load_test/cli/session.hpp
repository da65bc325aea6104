#pragma once

#include "troupe/examples/load_test/cli/plan.hpp"

namespace troupe::load_test {

/// Exit codes of the program.
enum class exit_code : int {
  fine = 0,
  missed = 1, ///< An objective was missed, a request failed, or the server was not there.
  usage = 2,
};

/// Carries a test out, shows how it goes, writes the reports. Ctrl-C ends it early; what was
/// measured is reported all the same.
exit_code carry_out(const test_plan& plan, const options& o);

/// Says it on standard error; returns the exit code that goes with it.
exit_code complain(const caf::error& reason);

} // namespace troupe::load_test
