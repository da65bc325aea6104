#include "troupe/models/cuda/check.hpp"

namespace troupe::models::cuda {

namespace {

ec code_for(cudaError_t error) {
  switch (error) {
  case cudaErrorMemoryAllocation:
    return ec::out_of_memory;
  // A refused launch or argument; nothing has run on the device.
  case cudaErrorInvalidValue:
  case cudaErrorInvalidConfiguration:
  case cudaErrorLaunchOutOfResources:
  case cudaErrorNotSupported:
  case cudaErrorStreamCaptureUnsupported:
  case cudaErrorStreamCaptureInvalidated:
  case cudaErrorStreamCaptureImplicit:
    return ec::step_fault;
  default:
    return ec::device_lost;
  }
}

} // namespace

void fail(cudaError_t error, const char* what) {
  cudaGetLastError(); // One that is not sticky must not show up again at the next launch.
  throw device_failure{code_for(error), std::string{what} + ": " + cudaGetErrorString(error)};
}

} // namespace troupe::models::cuda
