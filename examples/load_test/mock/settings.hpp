#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test {

/// How the built-in server behaves.
struct mock_settings {
  nanoseconds ttft = 20'000'000;
  nanoseconds itl = 10'000'000;
  nanoseconds jitter = 0;      ///< Each of these times varies evenly by so much in both directions.
  uint32_t output_tokens = 64; ///< Of requests that do not say.
  nanoseconds pause_at = 0;    ///< Since the first request.
  nanoseconds pause_for = 0;   ///< 0 = no pause.
  double error_share = 0;      ///< Of the requests;
  uint16_t error_status = 500; ///< 0: the connection is closed after the first token.
  uint32_t threads = 1;
  uint64_t seed = 0;
};

/// "ttft=20ms,itl=10ms,jitter=2ms,tokens=64,pause=5s:2s,errors=0.01:503,threads=1"; what is not
/// named stays. Errors: ec::bad_option with what is allowed.
caf::expected<mock_settings> parse_mock(std::string_view text);

/// When something happens that takes `delta` from `base` on, if the server does nothing at all
/// within [pause_begin, pause_begin + pause_for).
constexpr nanoseconds after_pause(nanoseconds base, nanoseconds delta, nanoseconds pause_begin,
                                  nanoseconds pause_for) {
  if (pause_for <= 0)
    return base + delta;
  auto end = pause_begin + pause_for;
  if (base >= pause_begin && base < end)
    base = end;
  auto due = base + delta;
  return base < pause_begin && due >= pause_begin ? due + pause_for : due;
}

} // namespace troupe::load_test
