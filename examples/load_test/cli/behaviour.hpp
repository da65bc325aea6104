#pragma once

#include <optional>
#include <string>

#include "troupe/examples/load_test/cli/plan.hpp"

namespace troupe::load_test {

/// A look at the server: whether it answers an ordinary request, and what it has running.
struct server_look {
  bool answers = false;
  std::string why;               ///< When it does not.
  nanoseconds took = 0;          ///< For one short answer.
  std::optional<double> running; ///< Requests in its batch, as its /metrics say.
};

/// Asks for one short answer, and reads /metrics.
server_look look_at_server(const test_plan& plan);

/// Waits until /metrics shows that nothing is running. Nothing: it shows no such thing, or not
/// within `patience`.
std::optional<nanoseconds> wait_until_idle(const test_plan& plan, nanoseconds patience);

/// The sum of all gauges in a Prometheus text whose names say that they count running requests.
std::optional<double> running_in(const std::string& metrics);

/// What the server did with clients that misbehaved, and whether it still works: lines for people.
std::string behaviour_report(const test_plan& plan, const run_results& odd,
                             const server_look& before, const server_look& after,
                             std::optional<nanoseconds> idle_after);

/// Whether the server came through: it still answers.
bool came_through(const server_look& after);

} // namespace troupe::load_test
