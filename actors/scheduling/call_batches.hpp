#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe::scheduling {

/// Dynamic batching of whole calls, where a running batch takes in nobody: a batch begins when the
/// one before is over and enough calls wait, or the first of them has waited long enough. A call is
/// one or more requests under one name. A plain single-threaded class.
class call_batches {
public:
  using time_point = std::chrono::steady_clock::time_point;

  /// @param size Calls in a batch, >= 1. @param delay How long an incomplete batch waits for more.
  call_batches(uint32_t size, std::chrono::milliseconds delay);

  /// A request has come. Those that join a call which runs or waits already go with it.
  void arrive(uint64_t request, const std::string& call, time_point now);

  /// It is over, whether or not it was ever started. Unknown ones are ignored.
  void leave(uint64_t request);

  /// The requests that are to begin now, each once.
  std::vector<uint64_t> start(time_point now);

  /// Calls of the batch that the last `start` began; 0: it began none.
  size_t begun() const { return begun_; }

  /// Whether requests of this call run or wait.
  bool knows(const std::string& call) const;

  /// When `start` may have something although nobody came or left; nothing: never.
  std::optional<time_point> due() const;

  size_t waiting() const { return waiting_.size(); }
  size_t running() const { return running_.size(); }

private:
  struct call {
    std::string name;
    time_point since;
    std::vector<uint64_t> requests;
  };

  uint32_t size_;
  std::chrono::milliseconds delay_;
  std::deque<call> waiting_;                          ///< Calls, the oldest first.
  std::unordered_map<uint64_t, std::string> running_; ///< Requests of the batch, and their calls.
  size_t begun_ = 0;
  std::vector<uint64_t> late_; ///< Requests of calls that run already.
};

} // namespace troupe::scheduling
