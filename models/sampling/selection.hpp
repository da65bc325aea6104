#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

/// Finding the largest of many values without sorting them all. NaN must not occur. Internal to
/// models/sampling.
namespace troupe::models::sampling {

/// A row of values with the maximum of each of its blocks (row_kernels.hpp), which lets most of the
/// row be skipped.
struct row_view {
  std::span<const float> values;
  std::span<const float> block_max;

  /// The largest value and the lowest index that holds it. @pre values is not empty
  std::pair<float, uint32_t> top() const;
};

/// Buffers that the functions below would otherwise allocate on every call.
struct selection_scratch {
  std::vector<float> values;
  std::vector<uint32_t> indices;
  std::vector<uint64_t> keys;
  std::vector<double> masses;
};

/// Indices of values >= threshold, ascending, into `found` (replaced).
void collect_at_least(const row_view& row, float threshold, std::vector<uint32_t>& found);

/// The k-th largest value, duplicates counted. @pre 0 < k <= row.values.size()
float kth_largest(const row_view& row, size_t k, selection_scratch& scratch);

/// Indices of the `count` largest values, descending, ties by ascending index.
void largest(const row_view& row, size_t count, selection_scratch& scratch,
             std::vector<uint32_t>& found);

/// Walks values in ascending order (ties by index) and adds up their masses.
struct running_mass {
  double base = 0;    ///< Mass that lies before the first value.
  float limit = 0;    ///< What the sum, rounded to fp32, is compared with.
  bool strict = true; ///< Stop at the first sum > limit; otherwise at the first sum >= limit.
  bool reached(double sum) const {
    const auto rounded = static_cast<float>(sum);
    return strict ? rounded > limit : rounded >= limit;
  }
};

/// The index of the value at which the sum (its own mass included) reaches the limit, or
/// `not_reached`. Sums are fp64 like those of torch's CPU cumsum.
/// @param keys, masses one per value, finite, masses >= 0.
inline constexpr uint32_t not_reached = UINT32_MAX;
uint32_t find_crossing(std::span<const float> keys, std::span<const float> masses,
                       const running_mass& rule, selection_scratch& scratch);

} // namespace troupe::models::sampling
