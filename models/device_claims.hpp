#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "troupe/models/device_library.hpp"

/// Memory of GPUs that plans count on and nobody has taken yet, so that the driver still calls it
/// free. Copies are planned and loaded on threads of their own, hence one table for the process.
namespace troupe::models {

/// Holds bytes of a GPU for a stage, from its plan until its weights and pages are allocated.
class device_claim {
public:
  device_claim(uint32_t ordinal, uint64_t bytes);
  ~device_claim() { release(); }
  device_claim(const device_claim&) = delete;
  device_claim& operator=(const device_claim&) = delete;

  /// The driver knows of it now, or nobody will take it. More than once is no harm; any thread.
  void release();

private:
  uint32_t ordinal_;
  uint64_t bytes_;
};

/// Held from reading what is free until it is claimed, so that no two plans count on the same
/// bytes.
std::unique_lock<std::mutex> planning_turn();

/// Takes what is claimed off what the driver calls free.
void take_off_claims(std::vector<device_description>& devices);

} // namespace troupe::models
