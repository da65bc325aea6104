#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/backend.hpp"

/// The backend of NVIDIA GPUs is a library of its own, libtroupe_cuda.so, opened when a device is
/// asked for: the program runs where there is no driver. This header is what the two agree on.
namespace troupe::models {

/// One GPU, as the driver numbers it (CUDA_VISIBLE_DEVICES respected).
struct device_description {
  uint32_t ordinal = 0;
  std::string name;
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0; ///< Right now, whoever uses the rest.
  uint32_t major = 0;      ///< Compute capability.
  uint32_t minor = 0;
  uint32_t multiprocessors = 0;
};

/// What a backend is made for: a stage's shape and its limits. Every buffer is sized from this
/// once.
struct device_stage_shape {
  uint32_t hidden = 0;
  uint32_t qkv_width = 0; ///< (H + 2 K) D
  uint32_t q_width = 0;
  uint32_t intermediate = 0;
  bool gated = false;
  uint32_t vocabulary = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  uint32_t block_tokens = 0;
  uint32_t context = 0;
  uint32_t max_step_tokens = 0;
  uint32_t max_sequences = 0;
  bool ends = true;             ///< Answers: logits and sampling.
  bool own_frequencies = false; ///< Sequences may rotate by angles of their own.
};

struct device_backend_options {
  uint32_t device = 0; ///< Ordinal.
  dtype compute = dtype::bf16;
  quantization quantized = quantization::none; ///< What its layers' matrices are kept as.
  bool graphs = true;                          ///< Record decode steps and replay them.
  bool batch_invariant = false; ///< A row's bits do not depend on who else is in the step.
  device_stage_shape shape;
};

/// Counts the changes of `device_entry` and of everything that it mentions.
inline constexpr uint32_t device_abi = 3;

/// What the library exports, through `troupe_cuda_entry`.
struct device_entry {
  uint32_t abi = device_abi;
  const char* build = ""; ///< `device_build()` of the library.
  /// Errors: ec::bad_option: no driver, or it is too old; the sentence says which.
  caf::expected<std::vector<device_description>> (*devices)() = nullptr;
  /// To be called on the thread that will use it. Errors: ec::bad_option, ec::out_of_memory,
  /// ec::device_lost.
  caf::expected<std::unique_ptr<backend>> (*make_backend)(const device_backend_options&) = nullptr;
  /// Device memory that a backend takes besides weights and pages. No device is needed.
  uint64_t (*working_bytes)(const device_backend_options&, const device_description&) = nullptr;
};

/// The library's one symbol.
inline constexpr const char* device_entry_symbol = "troupe_cuda_entry";
using device_entry_function = const device_entry* (*)();

/// Says which build something is of: the two halves exchange C++ objects, so they must be of one.
const char* device_build();

/// Opens the library beside the program (TROUPE_CUDA_LIBRARY names another file) the first time,
/// and keeps it. Errors: ec::bad_option: it is missing, cannot be loaded, or is of another build.
/// Threading: any thread.
caf::expected<const device_entry*> open_device_library();

/// As above, but a certain file, each time anew.
caf::expected<const device_entry*> open_device_library(const std::string& path);

/// Whether it is worth a look: the kernel shows an NVIDIA device, or TROUPE_CUDA_LIBRARY is set.
bool may_have_devices();

/// As list_devices, where a GPU is in use; otherwise none, and no driver is asked.
caf::expected<std::vector<device_description>> devices_in_use();

/// The GPUs there are. Errors: as open_device_library, and no driver, too old a driver, no device.
caf::expected<std::vector<device_description>> list_devices();

/// "GPU 0: NVIDIA H100 80GB HBM3, compute capability 9.0, 79.2 of 79.6 GiB free"
std::string describe(const device_description& device);

} // namespace troupe::models
