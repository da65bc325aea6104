#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace troupe::scheduling {

/// Sequences that share a padded forward pass: indexes into the lengths, longest first.
struct length_partition {
  std::vector<std::vector<uint32_t>> parts;
  uint64_t padding = 0; ///< Cells that hold no token.
  uint64_t cells = 0;   ///< All cells: rows times longest, over the parts.

  double sparsity() const { return cells == 0 ? 0 : static_cast<double>(padding) / cells; }
};

/// Splits sequences by length, so that padding them to the longest of their part wastes at most
/// `max_sparsity` of the cells: the smallest number of parts that achieves it, each time the
/// optimum, but never more than `max_splits`. O(n^2 max_splits).
/// Source: contract generation.md §8 (seq-scheduler's optimal partition).
length_partition partition(std::span<const uint32_t> lengths, double max_sparsity,
                           uint32_t max_splits);

} // namespace troupe::scheduling
