#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "troupe/actors/telemetry/metrics.hpp"

namespace troupe::telemetry {

/// What one request took.
struct request_sample {
  double seconds = 0;  ///< From arrival to the last event.
  uint64_t tokens = 0; ///< Generated, over all choices.
  int64_t batch = 0;   ///< Sequences that ran when it ended, itself included.
  // Seconds of its parts:
  double preparing = 0; ///< From arrival until the scheduler had its tokens.
  double computing = 0; ///< From its first step to its last token.
  double writing = 0;   ///< Making text and events of tokens.
};

/// Sums up every so many requests of a model: medians and 90th percentiles go to the model's
/// numbers, and to the log (LMI's log_request_metric). Any thread.
class request_window {
public:
  /// @param every At least 1.
  request_window(model_metrics_ptr numbers, size_t every);

  void add(const request_sample& sample);
  /// So many calls began together (without rolling batch).
  void add_batch(int64_t calls);

private:
  void close(std::vector<request_sample> samples, std::vector<int64_t> batches) const;

  model_metrics_ptr numbers_;
  size_t every_;
  std::mutex guard_;
  std::vector<request_sample> samples_;
  std::vector<int64_t> batches_; ///< Since the last window was closed.
};

} // namespace troupe::telemetry
