#include "troupe/models/device_claims.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace troupe::models {

namespace {

std::mutex& claims_guard() {
  static std::mutex guard;
  return guard;
}

/// By ordinal; under `claims_guard`. Never destroyed, because claims may outlive static objects.
std::map<uint32_t, uint64_t>& claims() {
  static auto& all = *new std::map<uint32_t, uint64_t>;
  return all;
}

} // namespace

device_claim::device_claim(uint32_t ordinal, uint64_t bytes) : ordinal_(ordinal), bytes_(bytes) {
  std::lock_guard lock{claims_guard()};
  claims()[ordinal_] += bytes_;
}

void device_claim::release() {
  std::lock_guard lock{claims_guard()};
  claims()[ordinal_] -= std::exchange(bytes_, 0);
}

std::unique_lock<std::mutex> planning_turn() {
  static std::mutex turn;
  return std::unique_lock{turn};
}

void take_off_claims(std::vector<device_description>& devices) {
  std::lock_guard lock{claims_guard()};
  for (auto& device : devices)
    if (auto it = claims().find(device.ordinal); it != claims().end())
      device.free_bytes -= std::min(device.free_bytes, it->second);
}

} // namespace troupe::models
