#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test {

/// How a request ended, as its answer told.
struct request_end {
  outcome ended = outcome::ok;
  uint16_t status = 0;
  uint32_t prompt_tokens = 0; ///< 0 = unknown.
  uint32_t output_tokens = 0; ///< 0 = as many as `token` was called.
  std::string complaint;      ///< Of a failure, for people.
};

/// Collects what one worker measures. Keeps every sample. Knows no clock. One thread.
class recorder {
public:
  using slot = uint32_t;

  /// Requests scheduled in [measured_from, measured_until) count; `measured_until` 0: all later
  /// ones.
  recorder(nanoseconds measured_from, nanoseconds measured_until);

  /// A request is under way; the slot names it until `end`.
  /// @param prompt_tokens As far as the client knows; the server's word goes before.
  slot begin(nanoseconds scheduled, nanoseconds sent, uint32_t prompt_tokens = 0);

  /// It was sent later than `begin` said: it had to wait for the client, not for the server.
  void sent(slot s, nanoseconds at) { live_[s].record.sent = at; }

  /// Output arrived.
  void token(slot s, nanoseconds now) {
    auto& live = live_[s];
    if (live.tokens++ == 0)
      live.record.first_token = now;
    else
      live.gaps.push_back(now - live.last_token);
    live.last_token = now;
    ++tokens_;
  }

  void end(slot s, nanoseconds now, const request_end& how);

  const request_record& of(slot s) const { return live_[s].record; }
  uint32_t tokens_of(slot s) const { return live_[s].tokens; }
  /// The last gap of a request in flight; 0 = none.
  nanoseconds last_gap(slot s) const { return live_[s].gaps.empty() ? 0 : live_[s].gaps.back(); }

  uint64_t begun() const { return begun_; }
  uint64_t completed() const { return completed_; }
  uint64_t failed() const { return failed_; }
  uint64_t tokens() const { return tokens_; }

  /// Puts everything that ended behind what `to` holds; `finish` of the whole sorts it.
  void drain_into(run_results& to);

private:
  struct in_flight {
    request_record record;
    std::vector<nanoseconds> gaps;
    nanoseconds last_token = 0;
    uint32_t tokens = 0;
  };

  nanoseconds from_;
  nanoseconds until_;
  std::vector<in_flight> live_;
  std::vector<slot> free_;
  // Deques, because a vector of some million samples stops everything while it grows.
  std::deque<request_record> requests_;
  std::deque<nanoseconds> gaps_;
  std::vector<std::pair<outcome, std::string>> failure_texts_;
  std::array<uint8_t, static_cast<size_t>(outcome::count)> texts_{};
  uint64_t begun_ = 0, completed_ = 0, failed_ = 0, tokens_ = 0;
};

/// Whether an outcome counts as a failure of the server.
constexpr bool is_failure(outcome o) {
  return o != outcome::ok && o != outcome::cancelled;
}

/// Sorts the requests by `scheduled` and notes the end of the measured time.
/// @param until 0: when the last request ended.
void finish(run_results& r, nanoseconds from, nanoseconds until);

} // namespace troupe::load_test
