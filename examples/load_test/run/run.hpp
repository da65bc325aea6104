#pragma once

#include <functional>

#include "troupe/examples/load_test/report/live_counters.hpp"
#include "troupe/examples/load_test/run/settings.hpp"

namespace troupe::load_test {

/// Called over and over by the thread that waits for a run, and itself decides how often by taking
/// its time; false ends the run early.
using run_watcher = std::function<bool(const report::live_snapshot&)>;

/// Carries out one run and waits for its end.
run_outcome run_load(const run_settings& settings, const run_watcher& watch);

} // namespace troupe::load_test
