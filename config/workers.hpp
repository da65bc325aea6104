#pragma once

#include <cstdint>

#include "troupe/config/resolve.hpp"

namespace troupe::config {

/// How many workers (copies of a model) there may be on one device.
struct worker_limits {
  uint32_t least = 1;
  uint32_t most = 1;
  bool least_given = false; ///< A setting says so.
  bool most_given = false;
};

/// minWorkers and maxWorkers with their gpu. and cpu. forms, which win. Unset: least 1; most 1 on a
/// GPU, and on the CPU `cores` / OMP_NUM_THREADS where that is set, else 2. `least` is cut to
/// `most`, but not to a GPU's usual one, because several GPUs may have to hold a copy together.
/// @param cores Of this machine, at least 1.
worker_limits resolve_workers(const settings& model, bool on_gpu, const environment& variables,
                              uint32_t cores);

} // namespace troupe::config
