#pragma once

#include <functional>

#include "troupe/examples/load_test/run/settings.hpp"

namespace troupe::load_test {

/// Called some times a second by the thread that waits for a run; false ends the run early.
using run_watcher = std::function<bool(const run_progress&)>;

/// Carries out one run and waits for its end.
run_outcome run_load(const run_settings& settings, const run_watcher& watch);

} // namespace troupe::load_test
