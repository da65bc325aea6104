#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/cli/options.hpp"
#include "troupe/examples/load_test/mock/server.hpp"
#include "troupe/examples/load_test/run/settings.hpp"

namespace troupe::load_test {

/// Bounds of a search; empty ends are looked for.
struct search_plan {
  std::optional<double> low, high;
};

/// A test as it is carried out: what was typed, checked, understood and completed.
struct test_plan {
  std::unique_ptr<mock_server> mock; ///< In place of a server.
  std::unique_ptr<target> to;
  run_settings run;     ///< Of every run; a sweep changes its rate or users.
  run_description what; ///< Likewise.
  std::vector<objective> objectives;
  std::vector<double> sweep_rate;
  std::vector<uint32_t> sweep_users;
  std::optional<search_plan> search;
  uint32_t repeats = 1;
  std::string behaviour;          ///< As typed; empty: all clients are well-behaved.
  std::vector<std::string> notes; ///< What one should know before the run.
};

/// Checks what was typed, finds the server, learns to count its tokens. Errors: ec::bad_option for
/// what was typed, others when the server cannot be reached.
caf::expected<test_plan> prepare(const options& o);

/// The seed of a test's run number `run`: the same prompts twice would be served from caches.
uint64_t seed_of_run(uint64_t seed, uint32_t run);

/// The settings of one run of a test: its users or rate, its own seed.
caf::expected<run_settings> settings_of(const test_plan& plan, const options& o, double rate,
                                        uint32_t users, uint32_t run);

} // namespace troupe::load_test
