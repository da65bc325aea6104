#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <string>
#include <vector>

#include "troupe/examples/load_test/report/histogram.hpp"

/// What a live view is fed with while a test runs: cheap to fill, a little old when read.
namespace troupe::load_test::report {

/// A histogram that one thread fills while others read it. A record is a load and a store to memory
/// that no other thread writes: no lock, no locked instruction. Counts wrap at 2^32.
class live_histogram {
public:
  void record(nanoseconds x) {
    auto& bin = bins_[histogram_bins::of(x)];
    bin.store(bin.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  uint32_t at(size_t bin) const { return bins_[bin].load(std::memory_order_relaxed); }

private:
  std::array<std::atomic<uint32_t>, histogram_bins::count> bins_{};
};

/// A count that one thread raises while others read it.
class live_count {
public:
  void add(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<uint64_t> value_{0};
};

/// What one worker has done so far. That worker writes, the viewer reads. 9 KB.
struct alignas(64) live_counters {
  live_count started, completed, failed, cancelled, output_tokens;
  live_histogram ttft, itl;

  /// A request ended, however it did.
  void ended(outcome how) {
    (how == outcome::ok ? completed : how == outcome::cancelled ? cancelled : failed).add();
  }
};

/// A moment of a test.
struct live_snapshot {
  double elapsed_s = 0;
  double duration_s = 0; ///< 0 = until `requests` are done.
  uint64_t requests = 0; ///< How many there will be; 0 = as many as fit the duration.
  uint64_t active = 0;
  uint64_t completed = 0;
  uint64_t failed = 0;
  uint64_t output_tokens = 0;
  /// Over the last few seconds. A latency that did not occur has count 0.
  struct latency {
    uint64_t count = 0;
    double p50_ms = 0;
    double p99_ms = 0;
  };
  double recent_s = 0; ///< How many seconds those are.
  double requests_per_s = 0;
  double output_tokens_per_s = 0;
  latency ttft, itl;
  std::string phase; ///< "warming up", "measuring", "rate 20, 3 of 8": shown as it is.
};

/// Adds up what the workers count and keeps the last few seconds apart. One thread, the viewer's.
class live_window {
public:
  /// The counters must outlive the window.
  explicit live_window(std::vector<const live_counters*> workers, double recent_s = 5);

  /// The counts now; phase, duration and number of requests are left to the caller.
  /// @param elapsed_s Since the begin; never less than at the call before.
  live_snapshot take(double elapsed_s);

private:
  struct totals {
    double at_s = 0;
    uint64_t completed = 0, output_tokens = 0;
    std::vector<uint32_t> ttft, itl;
  };
  totals read(double elapsed_s) const;

  std::vector<const live_counters*> workers_;
  double recent_s_;
  std::deque<totals> past_;
};

} // namespace troupe::load_test::report
