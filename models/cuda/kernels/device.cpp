#include "troupe/models/cuda/kernels/kernels.hpp"

namespace troupe::models::cuda {

cudaError_t query_device(int device, device_traits& traits) {
  int shared = 0;
  const struct {
    int* to;
    cudaDeviceAttr what;
  } wanted[] = {{&traits.multiprocessors, cudaDevAttrMultiProcessorCount},
                {&traits.major, cudaDevAttrComputeCapabilityMajor},
                {&traits.minor, cudaDevAttrComputeCapabilityMinor},
                {&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin}};
  for (const auto& w : wanted)
    if (const auto e = cudaDeviceGetAttribute(w.to, w.what, device); e != cudaSuccess)
      return e;
  traits.shared_bytes = static_cast<size_t>(shared);
  return cudaSuccess;
}

} // namespace troupe::models::cuda
