#pragma once

#include <cstdint>
#include <string>

#include "troupe/examples/load_test/client/connection.hpp"
#include "troupe/examples/load_test/load/driver.hpp"
#include "troupe/examples/load_test/prompts/prompt_source.hpp"

namespace troupe::load_test {

/// Everything that one run needs to know.
struct run_settings {
  const target* to = nullptr;
  dialect_ptr speaks;
  prompt_source_ptr prompts;
  std::string path;
  load_plan plan;
  nanoseconds warm_up = 0;
  nanoseconds duration = 0; ///< Measured time; 0 = until plan.requests are done.
  nanoseconds timeout = 0;  ///< Of one request, from when it is sent; 0 = none.
  uint32_t workers = 1;
  uint32_t max_in_flight = 0; ///< Over all workers; 0 = no limit.
  bool keep_alive = true;
  manners odd;                 ///< How some of the clients behave,
  double odd_share = 0;        ///< and what share of users or arrivals they are.
  bool odd_kept_apart = false; ///< Requests of the share are odd even if `odd` is plain (a storm).
  uint64_t seed = 0;
};

/// A run's ordinary requests, and apart from them those of clients that misbehaved on purpose.
struct run_outcome {
  run_results ordinary;
  run_results odd;
  bool interrupted = false;
};

} // namespace troupe::load_test
