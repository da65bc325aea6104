#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "troupe/config/error.hpp"

namespace troupe {

/// Who holds how much memory of each device. Loads reserve first, so two models that each fit but
/// not together are told apart before either has touched a page. A plain class.
class memory_ledger {
public:
  /// Sets what a device has; devices without a capacity refuse everything.
  void set_capacity(const std::string& device, uint64_t bytes) { capacity_[device] = bytes; }

  /// Replaces what `owner` holds on `device`; 0 gives it back. Errors: ec::out_of_memory with who
  /// needs what and what is left; the earlier reservation then stays.
  /// @param spare What has to be left free afterwards.
  caf::error reserve(const std::string& device, const std::string& owner, uint64_t weight_bytes,
                     uint64_t kv_bytes, uint64_t spare = 0);

  /// Gives back what `owner` holds on all devices.
  void release(const std::string& owner);

  uint64_t capacity(const std::string& device) const;
  uint64_t reserved(const std::string& device) const;

private:
  std::map<std::string, uint64_t> capacity_;
  std::map<std::string, std::map<std::string, uint64_t>> held_; ///< By device, by owner.
};

/// What this process may use of the machine's memory: physical RAM or its cgroup's limit, in bytes.
uint64_t usable_memory();

} // namespace troupe
