#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "troupe/models/backend.hpp"
#include "troupe/models/cuda/memory.hpp"

namespace troupe::models::cuda {

/// One step from its begin until its results were fetched: the pinned memory it is copied from and
/// answered into. Used again for later steps.
struct step_record {
  step_ticket ticket{};
  pinned_buffer input;
  pinned_buffer results; ///< draw_result, then top entries where wanted.
  pinned_buffer logits;  ///< Rows that the host samples, fp32.
  event begun{true};
  event done{true};
  std::vector<draw> draws;
  std::vector<uint32_t>
      on_host; ///< Of `draws`, ascending; row i of `logits` belongs to on_host[i].
  size_t picked = 0;
  bool has_top = false;
  std::function<void()> notify;
  std::atomic<bool> watched{false}; ///< The completion thread still needs it.
};

/// Waits for steps on a thread of its own and says when one is done, also when the device is lost:
/// a callback in the stream would not be called then.
class completion_thread {
public:
  explicit completion_thread(int device);
  ~completion_thread();

  /// The record stays where it is until it is no longer `watched`. In the order of the stream.
  void watch(step_record* record);

private:
  void run(int device);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<step_record*> watched_;
  bool stop_ = false;
  std::thread thread_;
};

} // namespace troupe::models::cuda
