#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>

#include "troupe/config/rate_limit.hpp"

namespace troupe::http {

/// What an error is counted as (contract config.md §2, error_rate_*).
enum class error_class : uint8_t {
  wlm,    ///< Refused for lack of room or readiness: 503 and 507.
  server, ///< 424, and 5xx for other reasons.
  model,  ///< The model failed while it worked on the request.
  any,    ///< All of the above.
  count
};

/// Limits by class; nothing = no limit.
using error_rate_limits =
    std::array<std::optional<config::rate_limit>, static_cast<size_t>(error_class::count)>;

/// Follows how often requests fail. Once a limit was exceeded it stays so: whoever watches /ping
/// shall replace the process. Any thread; costs nothing without limits and nothing for good
/// answers.
class error_rates {
public:
  using clock = std::chrono::steady_clock;

  explicit error_rates(const error_rate_limits& limits = {});

  /// An answer that ended with this status, or an event in a stream that stands for it.
  /// @param model The model failed.
  void record(int status, bool model, clock::time_point now = clock::now());

  bool exceeded() const { return exceeded_.load(std::memory_order_relaxed); }

private:
  void count(error_class what, clock::time_point now);

  error_rate_limits limits_;
  bool limited_ = false;
  std::mutex mutex_;
  /// The latest errors of each class, no more than its limit.
  std::array<std::deque<clock::time_point>, static_cast<size_t>(error_class::count)> latest_;
  std::atomic<bool> exceeded_{false};
};

} // namespace troupe::http
