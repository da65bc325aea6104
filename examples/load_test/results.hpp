#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

/// What a load test measured, before anything is computed from it. The load generator fills this
/// in, report/ reads it; neither knows more of the other. Plain values, one thread.
///
/// Every time is in nanoseconds on the run's own clock, whose zero is the run's begin.
namespace troupe::load_test {

using nanoseconds = int64_t;

/// How a request ended.
enum class outcome : uint8_t {
  ok,
  refused,         ///< 429 or 503: overload said early.
  http_error,      ///< Any other status of 400 or more.
  connect_failed,  ///< No connection, or TLS failed.
  connection_lost, ///< Closed or reset before the answer was complete.
  malformed,       ///< The answer is not what the dialect promises.
  stream_error,    ///< An error event inside a stream.
  timed_out,
  cancelled, ///< By us, as a behaviour test asks for; no failure.
  count
};

/// The name of an outcome in reports: "ok", "refused", ...
const char* name_of(outcome o);

/// One request. All latencies are taken from `scheduled`, the time at which the load asks for it,
/// so that a server that stalls cannot hide the requests that it kept from being sent.
struct request_record {
  nanoseconds scheduled = 0;
  /// First byte written or, where it takes a new connection, that asked for: `sent - scheduled` is
  /// our own lateness.
  nanoseconds sent = 0;
  nanoseconds first_token = 0; ///< 0 = none came.
  nanoseconds end = 0;         ///< Last byte of the answer, or the failure.
  uint64_t first_gap = 0;      ///< Of its gaps between tokens, into run_results::gaps.
  uint32_t gap_count = 0;
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  uint16_t status = 0; ///< HTTP; 0 = no answer.
  outcome ended = outcome::ok;
  bool measured = true; ///< False while warming up, and after the end of the measured time.
};

/// CPU and lateness of the load generator itself, which decide whether the figures can be trusted.
struct generator_health {
  double cpu_seconds = 0; ///< User + system, all threads, during the measured time.
  double wall_seconds = 0;
  uint32_t workers = 1;
};

/// What was asked for, as it stands at the top of every report. Names as on the command line.
struct run_description {
  std::string url;
  std::string dialect;
  std::string model;
  std::string load;    ///< E.g. "closed loop, 32 users", "open loop, poisson, 12 requests/s".
  std::string version; ///< Of troupe-load.
  double rate = 0;     ///< Asked requests/s; 0 = closed loop.
  uint32_t users = 0;  ///< 0 = open loop.
  uint64_t seed = 0;
  int64_t started_at_unix_ms = 0;
  std::vector<std::pair<std::string, std::string>> settings; ///< Every flag and its value.
};

/// One run at one load.
struct run_results {
  run_description what;
  generator_health health;
  nanoseconds begin = 0; ///< Of the measured time.
  nanoseconds end = 0;
  std::vector<request_record> requests; ///< In the order of `scheduled`.
  std::vector<nanoseconds> gaps; ///< Times between tokens; a request's lie together, in order.
  /// The first few messages of each kind of failure, as the server or the system said them.
  std::vector<std::pair<outcome, std::string>> failure_texts;
};

/// An objective such as "ttft_p99=500ms": a latency's percentile must not exceed a bound.
struct objective {
  enum class latency : uint8_t { ttft, itl, tpot, e2e };
  latency what = latency::ttft;
  double percentile = 99; ///< 0 < percentile <= 100; 100 = the maximum.
  nanoseconds at_most = 0;
};

} // namespace troupe::load_test
