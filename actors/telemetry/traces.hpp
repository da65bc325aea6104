#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What is told of each request to whoever traces it. Off until runtime/ switches it on.
namespace troupe::telemetry {

/// Where a request comes from, as the header `traceparent` says (W3C Trace Context, version 00).
struct trace_parent {
  std::string trace; ///< 32 hexadecimal digits.
  std::string span;  ///< 16 of them.
  bool sampled = true;
};

/// Nothing for a text that is none; such a header counts as absent.
std::optional<trace_parent> parse_traceparent(std::string_view text);

/// A request that has ended. Times are nanoseconds since 1970; 0 = it never came so far.
struct request_trace {
  std::string parent;  ///< The header `traceparent`, or empty.
  std::string request; ///< Id.
  std::string model;
  std::string operation; ///< "chat" or "text_completion".
  int64_t arrived = 0;
  int64_t begun = 0; ///< Its first step began.
  int64_t first_token = 0;
  int64_t ended = 0;
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t generated_tokens = 0;
  int64_t max_tokens = -1;
  double temperature = 0; ///< 0 = greedy.
  double top_p = 1;
  std::string outcome; ///< As in the metrics: "length", "cancelled", ...
  bool failed = false;
};

/// Hands traces from many to one who sends them. What it has no room for is dropped and counted, so
/// that nobody ever waits. Any thread.
class trace_queue {
public:
  explicit trace_queue(size_t capacity = 4096) : capacity_(capacity) {}

  /// Whether anybody wants traces; guards the making of them.
  bool on() const { return on_.load(std::memory_order_relaxed); }
  void switch_on(bool on) { on_ = on; }

  void push(request_trace trace);

  /// Waits until there are some, or `patience` has passed, and takes up to `most`.
  std::vector<request_trace> take(size_t most, std::chrono::milliseconds patience);

  /// Ends a wait.
  void wake();

  void drop(uint64_t count) { dropped_.fetch_add(count, std::memory_order_relaxed); }
  /// Traces that were lost, here or on their way.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

private:
  const size_t capacity_;
  std::atomic<bool> on_{false};
  std::atomic<uint64_t> dropped_{0};
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<request_trace> waiting_;
  bool woken_ = false;
};

/// The process's traces.
trace_queue& traces();

} // namespace troupe::telemetry
