#include "troupe/examples/load_test/report/histogram.hpp"

#include <algorithm>

namespace troupe::load_test::report {

nanoseconds histogram_bins::lower(size_t bin) {
  if (bin == 0)
    return 0;
  auto octave = first_octave + static_cast<int>((bin - 1) >> sub_bits);
  auto sub = static_cast<nanoseconds>((bin - 1) & ((size_t{1} << sub_bits) - 1));
  return (nanoseconds{1} << octave) + (sub << (octave - sub_bits));
}

void histogram::merge(const histogram& other) {
  for (size_t i = 0; i < bins_.size(); ++i)
    bins_[i] += other.bins_[i];
  count_ += other.count_;
}

double histogram::percentile(double p) const {
  if (count_ == 0)
    return 0;
  auto rank = p / 100 * static_cast<double>(count_ - 1);
  double before = 0;
  for (size_t i = 0; i < bins_.size(); ++i) {
    auto here = static_cast<double>(bins_[i]);
    if (here > 0 && rank < before + here) {
      auto low = static_cast<double>(histogram_bins::lower(i));
      auto high = static_cast<double>(histogram_bins::lower(i + 1));
      return low + (high - low) * std::min(1.0, (rank - before + 0.5) / here);
    }
    before += here;
  }
  return static_cast<double>(histogram_bins::lower(histogram_bins::count - 1));
}

sparse_histogram::sparse_histogram(const histogram& full) {
  for (size_t i = 0; i < histogram_bins::count; ++i)
    if (full.at(i) > 0)
      entries.push_back({static_cast<uint32_t>(i), full.at(i)});
}

void sparse_histogram::add_to(histogram& to, uint64_t times) const {
  for (auto& x : entries)
    to.add(x.bin, x.times * times);
}

uint64_t sparse_histogram::count() const {
  uint64_t sum = 0;
  for (auto& x : entries)
    sum += x.times;
  return sum;
}

} // namespace troupe::load_test::report
