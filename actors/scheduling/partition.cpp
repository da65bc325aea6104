#include "troupe/actors/scheduling/partition.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace troupe::scheduling {

length_partition partition(std::span<const uint32_t> lengths, double max_sparsity,
                           uint32_t max_splits) {
  length_partition result;
  const size_t n = lengths.size();
  if (n == 0)
    return result;
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return lengths[a] > lengths[b]; });
  std::vector<uint64_t> before(n + 1, 0); // sum of the first i lengths
  for (size_t i = 0; i < n; ++i)
    before[i + 1] = before[i] + lengths[order[i]];
  const auto real = before[n];
  auto waste = [&](size_t from, size_t to) {
    return uint64_t{lengths[order[from]]} * (to - from) - (before[to] - before[from]);
  };

  // least[k][i]: least padding of the suffix i.. in exactly k + 1 parts, cut[k][i] its first cut.
  const auto most = std::min<size_t>(std::max(max_splits, 1u), n);
  constexpr auto never = std::numeric_limits<uint64_t>::max();
  std::vector<std::vector<uint64_t>> least;
  std::vector<std::vector<size_t>> cut;
  size_t k = 0;
  for (;; ++k) {
    least.emplace_back(n + 1, never);
    cut.emplace_back(n + 1, n);
    for (size_t i = 0; i < n; ++i) {
      if (k == 0) {
        least[0][i] = waste(i, n);
        continue;
      }
      for (size_t j = i + 1; j < n; ++j) {
        if (least[k - 1][j] == never)
          continue;
        auto total = waste(i, j) + least[k - 1][j];
        if (total < least[k][i]) {
          least[k][i] = total;
          cut[k][i] = j;
        }
      }
    }
    result.padding = least[k][0];
    result.cells = real + result.padding;
    if (k + 1 == most || result.sparsity() <= max_sparsity)
      break;
  }

  for (size_t i = 0; i < n; --k) {
    auto end = cut[k][i];
    result.parts.emplace_back(order.begin() + static_cast<ptrdiff_t>(i),
                              order.begin() + static_cast<ptrdiff_t>(end));
    i = end;
  }
  return result;
}

} // namespace troupe::scheduling
