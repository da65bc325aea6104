#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

#include "troupe/examples/load_test/load/arrivals.hpp"

namespace troupe::load_test {

/// The load that is asked for.
struct load_plan {
  uint32_t users = 0; ///< Closed loop; 0 = open loop with `arrival`.
  arrival_settings arrival;
  nanoseconds stop_at = 0;    ///< Nothing is scheduled at or after it; 0 = `requests` ends the run.
  uint64_t requests = 0;      ///< 0 = as many as fit.
  nanoseconds ramp_up = 0;    ///< Closed loop: users begin spread over this time.
  nanoseconds think_time = 0; ///< A user's pause between an answer and the next request.
  uint32_t turns = 1;         ///< Requests of one conversation.
};

/// One request to be sent. (user, turn) of an open loop: the arrival's number and the turn in its
/// conversation; of a closed loop: the user, and its requests counted through.
struct request_start {
  nanoseconds scheduled = 0;
  uint64_t user = 0;
  uint64_t turn = 0;
};

/// Decides when which request begins. Knows no clock and no socket: whoever drives it says what
/// time it is. One of `shares` drivers that split one load among worker threads; together they
/// schedule what a single one would. One thread each.
class driver {
public:
  /// @param share   0 .. shares - 1
  /// @param tickets Counts the requests of all shares; outlives this.
  driver(load_plan plan, uint32_t share, uint32_t shares, std::atomic<uint64_t>& tickets);

  /// When `take_due` will have something; nothing: not before a request finishes, or never.
  std::optional<nanoseconds> next_due() const;

  /// The next request whose time has come.
  std::optional<request_start> take_due(nanoseconds now);

  /// The request `start` is over; what its user does next is scheduled.
  /// @param goes_on False: a failed request ends its conversation.
  void finished(const request_start& start, nanoseconds now, bool goes_on = true);

  /// Schedules nothing any more.
  void stop();

  /// Nothing is due any more, unless a request in flight has a next turn.
  bool idle() const { return pending_.empty(); }

private:
  struct later {
    bool operator()(const request_start& a, const request_start& b) const {
      return a.scheduled > b.scheduled;
    }
  };

  void plan_arrival();
  void push(const request_start& start);

  load_plan plan_;
  uint32_t share_;
  uint32_t shares_;
  std::atomic<uint64_t>& tickets_;
  arrivals arrivals_;
  uint64_t arrived_ = 0; ///< Of the whole load, not of this share.
  bool stopped_ = false;
  std::priority_queue<request_start, std::vector<request_start>, later> pending_;
};

} // namespace troupe::load_test
