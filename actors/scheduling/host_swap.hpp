#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "troupe/actors/scheduling/limits.hpp"
#include "troupe/models/step.hpp"

namespace troupe::scheduling {

/// Keeps account of the host memory in which preempted sequences leave their KV, and tells when
/// that is faster than computing it again. A plain single-threaded class.
class host_swap {
public:
  explicit host_swap(swap_limits limits) : limits_(std::move(limits)) {}

  /// Whether `blocks` are moved out and back in less time than their `positions` are computed.
  /// @param token_ns What a prompt token takes to compute; 0 = unknown, then nothing is moved.
  bool pays(uint32_t blocks, uint32_t positions, double token_ns) const;

  /// So many places in host memory, or nothing when there are fewer.
  std::optional<std::vector<block_id>> take(uint32_t count);

  /// Empties `places`.
  void give_back(std::vector<block_id>& places);

  uint32_t used() const { return used_; }

private:
  swap_limits limits_;
  std::vector<block_id> returned_;
  uint32_t fresh_ = 0; ///< Places from here on were never used.
  uint32_t used_ = 0;
};

} // namespace troupe::scheduling
