#include "troupe/models/sampling/selection.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "troupe/models/sampling/row_kernels.hpp"

namespace troupe::models::sampling {

namespace {

/// So few values are sorted outright.
constexpr size_t sort_at_most = 512;
constexpr size_t buckets = 512;
/// A distribution that defies equal-width buckets this often is sorted after all.
constexpr int most_rounds = 8;

/// Maps floats to integers of the same order; -0 and +0 stay equal.
uint32_t ordered(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

} // namespace

std::pair<float, uint32_t> row_view::top() const {
  const auto block = std::max_element(block_max.begin(), block_max.end()) - block_max.begin();
  const auto first = values.begin() + block * static_cast<std::ptrdiff_t>(row_block);
  const float best = block_max[static_cast<size_t>(block)];
  const auto place = std::find(first, values.end(), best);
  return {best, static_cast<uint32_t>(place - values.begin())};
}

void collect_at_least(const row_view& row, float threshold, std::vector<uint32_t>& found) {
  found.resize(row.values.size());
  size_t count = 0;
  for (size_t block = 0; block < row.block_max.size(); ++block) {
    if (row.block_max[block] < threshold)
      continue;
    const size_t end = std::min((block + 1) * row_block, row.values.size());
    for (size_t i = block * row_block; i < end; ++i) {
      found[count] = static_cast<uint32_t>(i);
      count += row.values[i] >= threshold ? 1 : 0;
    }
  }
  found.resize(count);
}

float kth_largest(const row_view& row, size_t k, selection_scratch& scratch) {
  auto& values = scratch.values;
  const auto kth = static_cast<std::ptrdiff_t>(k - 1);
  values.assign(row.block_max.begin(), row.block_max.end());
  if (k <= values.size()) {
    // k blocks reach the k-th largest maximum, so the k-th largest value cannot lie below it.
    std::nth_element(values.begin(), values.begin() + kth, values.end(), std::greater<>{});
    collect_at_least(row, values[k - 1], scratch.indices);
    values.clear();
    for (const auto index : scratch.indices)
      values.push_back(row.values[index]);
  } else {
    values.assign(row.values.begin(), row.values.end());
  }
  std::nth_element(values.begin(), values.begin() + kth, values.end(), std::greater<>{});
  return values[k - 1];
}

void largest(const row_view& row, size_t count, selection_scratch& scratch,
             std::vector<uint32_t>& found) {
  count = std::min(count, row.values.size());
  found.clear();
  if (count == 0)
    return;
  collect_at_least(row, kth_largest(row, count, scratch), found);
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(found.begin(), middle, found.end(), [&](uint32_t a, uint32_t b) {
    return row.values[a] != row.values[b] ? row.values[a] > row.values[b] : a < b;
  });
  found.erase(middle, found.end());
}

uint32_t find_crossing(std::span<const float> keys, std::span<const float> masses,
                       const running_mass& rule, selection_scratch& scratch) {
  auto& members =
      scratch.indices; // Not filled before the first round: that one reads straight through.
  bool everything = true;
  const auto each_member = [&](auto&& visit) {
    if (everything)
      for (uint32_t i = 0; i < keys.size(); ++i)
        visit(i);
    else
      for (const auto m : members)
        visit(m);
  };
  size_t count = keys.size();
  double base = rule.base;
  // Narrow down to the bucket that holds the crossing: what lies below it is only added up.
  for (int round = 0; count > sort_at_most && round < most_rounds; ++round) {
    float low = std::numeric_limits<float>::max(), high = std::numeric_limits<float>::lowest();
    each_member([&](uint32_t m) {
      low = std::min(low, keys[m]);
      high = std::max(high, keys[m]);
    });
    const float scale = static_cast<float>(buckets) / (high - low);
    if (!(high > low) || !std::isfinite(scale) || !(scale > 0))
      break;
    const auto bucket_of = [&](uint32_t m) {
      return std::min(static_cast<int32_t>((keys[m] - low) * scale),
                      static_cast<int32_t>(buckets) - 1);
    };
    auto& sums = scratch.masses;
    sums.assign(buckets, 0.0);
    each_member([&](uint32_t m) { sums[static_cast<size_t>(bucket_of(m))] += masses[m]; });
    size_t crossing = 0;
    while (crossing < buckets && !rule.reached(base + sums[crossing]))
      base += sums[crossing++];
    if (crossing == buckets) {
      if (everything)
        return not_reached;
      // Adding up in another order lost the last bit: the crossing is the last member's.
      return *std::max_element(members.begin(), members.end(), [&](uint32_t a, uint32_t b) {
        return keys[a] != keys[b] ? keys[a] < keys[b] : a < b;
      });
    }
    const auto wanted = static_cast<int32_t>(crossing);
    members.resize(count); // Writing at or behind the place that is read leaves the rest intact.
    size_t left = 0;
    each_member([&](uint32_t m) {
      members[left] = m;
      left += bucket_of(m) == wanted ? 1 : 0;
    });
    members.resize(count = left);
    everything = false;
  }
  auto& order = scratch.keys;
  order.clear();
  each_member([&](uint32_t m) { order.push_back(uint64_t{ordered(keys[m])} << 32 | m); });
  if (!std::is_sorted(order.begin(), order.end()))
    std::sort(order.begin(), order.end());
  for (const auto entry : order) {
    const auto m = static_cast<uint32_t>(entry);
    base += masses[m];
    if (rule.reached(base))
      return m;
  }
  return everything ? not_reached : static_cast<uint32_t>(order.back());
}

} // namespace troupe::models::sampling
