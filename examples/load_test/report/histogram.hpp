#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test::report {

/// The bins that every sketch of latencies here shares: 32 to an octave, from 1.024 us to 73 min,
/// so that a bin is 3.1 % wide at most and two sketches merge by adding. Source: the layout of
/// HdrHistogram (G. Tene), with 5 bits below the leading one.
struct histogram_bins {
  static constexpr int sub_bits = 5;
  static constexpr int first_octave = 10; ///< 2^10 ns
  static constexpr int last_octave = 42;  ///< 2^42 ns
  /// Bin 0 holds what is shorter, the last one what is longer.
  static constexpr size_t count = (size_t{last_octave - first_octave} << sub_bits) + 2;

  static size_t of(nanoseconds x) {
    if (x < (nanoseconds{1} << first_octave))
      return 0;
    if (x >= (nanoseconds{1} << last_octave))
      return count - 1;
    auto octave = 63 - __builtin_clzll(static_cast<unsigned long long>(x));
    auto sub = static_cast<size_t>(x >> (octave - sub_bits)) & ((size_t{1} << sub_bits) - 1);
    return 1 + (static_cast<size_t>(octave - first_octave) << sub_bits) + sub;
  }

  /// The shortest latency of a bin, in nanoseconds; `count` gives the upper border of the last.
  static nanoseconds lower(size_t bin);
};

/// Latencies by bins: a fixed 8 KB, however many are recorded. One thread.
class histogram {
public:
  void record(nanoseconds x) { add(histogram_bins::of(x), 1); }
  void add(size_t bin, uint64_t times) {
    bins_[bin] += times;
    count_ += times;
  }
  void merge(const histogram& other);

  uint64_t count() const { return count_; }
  uint64_t at(size_t bin) const { return bins_[bin]; }

  /// The percentile in nanoseconds, linear within its bin, so off by one bin's width (3.1 %) at
  /// most; 0 when nothing was recorded.
  /// @param p 0 <= p <= 100
  double percentile(double p) const;

private:
  std::array<uint64_t, histogram_bins::count> bins_{};
  uint64_t count_ = 0;
};

/// The occupied bins of a histogram, ascending: what is kept per stretch of time and stored in
/// JSON.
struct sparse_histogram {
  struct entry {
    uint32_t bin = 0;
    uint64_t times = 0;
    bool operator==(const entry&) const = default;
  };
  std::vector<entry> entries;

  sparse_histogram() = default;
  explicit sparse_histogram(const histogram& full);

  /// Adds everything `times` over.
  void add_to(histogram& to, uint64_t times = 1) const;
  uint64_t count() const;
  bool operator==(const sparse_histogram&) const = default;
};

} // namespace troupe::load_test::report
