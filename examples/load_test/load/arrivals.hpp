#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "troupe/examples/load_test/random.hpp"
#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test {

/// One request of a recorded load.
struct trace_entry {
  nanoseconds at = 0;         ///< Since the first entry.
  uint32_t input_tokens = 0;  ///< 0 = as the command line says.
  uint32_t output_tokens = 0; ///< Likewise.
};

using trace_ptr = std::shared_ptr<const std::vector<trace_entry>>;

/// How requests of an open loop are spread over time.
enum class arrival_kind : uint8_t {
  constant, ///< One every 1/rate.
  poisson,  ///< Independent of each other.
  gamma,    ///< Gaps drawn from a gamma distribution; `burstiness` is its shape.
  ramp,     ///< The rate grows evenly from `ramp_from` to `rate` within `ramp_time`, then stays.
  trace,    ///< As they came once.
};

struct arrival_settings {
  arrival_kind kind = arrival_kind::poisson;
  double rate = 1;       ///< Requests per second; for traces unused.
  double burstiness = 1; ///< 1 is Poisson, less is burstier, more is smoother.
  double ramp_from = 0;
  nanoseconds ramp_time = 0;
  double speed = 1; ///< Of a trace: 2 replays it in half its time.
  trace_ptr trace;
  uint64_t seed = 0;
};

/// One arrival after the other; the same settings give the same arrivals.
class arrivals {
public:
  explicit arrivals(arrival_settings settings);

  /// The next arrival, never before the one before; nothing when a trace is over.
  std::optional<nanoseconds> next();

private:
  arrival_settings settings_;
  random_source random_;
  double seconds_ = 0; ///< Of the last arrival; a sum of gaps would collect rounding errors.
  uint64_t count_ = 0;
};

} // namespace troupe::load_test
