#pragma once

#include <cuda_runtime_api.h>

#include "troupe/models/backend.hpp"

namespace troupe::models::cuda {

/// Throws `device_failure`: ec::out_of_memory and ec::step_fault leave the device usable,
/// ec::device_lost says that every further call on it would fail too. @param what What was tried,
/// as in "copying the step to the device".
[[noreturn]] void fail(cudaError_t error, const char* what);

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    fail(error, what);
}

} // namespace troupe::models::cuda
