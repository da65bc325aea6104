#include <string>

#include "troupe/models/cuda/cuda_backend.hpp"

namespace troupe::models::cuda {

namespace {

/// Kernels are compiled for this compute capability and up.
constexpr int least_major = 8;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

caf::error refuse(std::string why) {
  return caf::make_error(ec::bad_option, std::move(why));
}

caf::error explain(cudaError_t error) {
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  if (error == cudaErrorNoDevice)
    return refuse("there is no GPU: the driver finds none (is one hidden by "
                  "CUDA_VISIBLE_DEVICES?)");
  if (driver == 0)
    return refuse("there is no NVIDIA driver on this machine: install one, or serve on the CPU");
  if (error == cudaErrorInsufficientDriver || driver / 1000 < runtime / 1000)
    return refuse("the NVIDIA driver is too old: it speaks CUDA " + version_text(driver) +
                  ", and Troupe needs " + version_text(runtime / 1000 * 1000) +
                  ": install driver 580 or newer");
  return refuse(std::string{"the GPUs cannot be used: "} + cudaGetErrorString(error));
}

caf::expected<std::vector<device_description>> devices() {
  int count = 0;
  if (const auto error = cudaGetDeviceCount(&count); error != cudaSuccess)
    return explain(error);
  std::vector<device_description> found;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (const auto error = cudaGetDeviceProperties(&properties, i); error != cudaSuccess)
      return explain(error);
    size_t free = 0;
    size_t total = properties.totalGlobalMem;
    if (properties.major >= least_major) {
      if (cudaSetDevice(i) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess)
        return explain(cudaGetLastError());
    }
    found.push_back({.ordinal = static_cast<uint32_t>(i),
                     .name = properties.name,
                     .total_bytes = total,
                     .free_bytes = free,
                     .major = static_cast<uint32_t>(properties.major),
                     .minor = static_cast<uint32_t>(properties.minor),
                     .multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount)});
  }
  return found;
}

caf::expected<std::unique_ptr<backend>> make_backend(const device_backend_options& options) {
  try {
    return std::unique_ptr<backend>{std::make_unique<cuda_backend>(options)};
  } catch (const device_failure& x) {
    return caf::make_error(x.code(),
                           "GPU " + std::to_string(options.device) + ": " + std::string{x.what()});
  }
}

uint64_t bytes_needed(const device_backend_options& options, const device_description& device) {
  return working_bytes(options, {.multiprocessors = static_cast<int>(device.multiprocessors),
                                 .major = static_cast<int>(device.major),
                                 .minor = static_cast<int>(device.minor),
                                 .shared_bytes = 0});
}

} // namespace

extern "C" __attribute__((visibility("default"))) const device_entry* troupe_cuda_entry() {
  static const device_entry table{.abi = device_abi,
                                  .build = device_build(),
                                  .devices = devices,
                                  .make_backend = make_backend,
                                  .working_bytes = bytes_needed};
  return &table;
}

} // namespace troupe::models::cuda
