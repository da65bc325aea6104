#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/config/error.hpp"

/// How models stand in the engine's registry, and what the management API takes and shows of it.
namespace troupe {

/// In place of a number of workers: as many as there are devices for.
inline constexpr uint32_t unset_workers = UINT32_MAX;

/// Numbers of workers on one device.
struct device_workers {
  int32_t device = -1; ///< A GPU's number; -1 is the CPU.
  uint32_t min = 1;
  uint32_t max = 1;
};

/// What a registration says beside how the model is loaded. Plain values; times in the units of
/// their names.
struct registration {
  std::string version; ///< Several versions may bear one name; empty: it has none.
  std::string url;     ///< Where it came from, as it was asked for; empty: its folder.
  /// One of the models that the process was started with: requests that name no model go to the
  /// only one of these.
  bool at_startup = true;
  uint32_t batch_size = 1; ///< batch_size, max_batch_delay: of calls without rolling batch.
  uint32_t max_batch_delay_ms = 100;
  uint32_t max_idle_seconds = 60;
  /// Workers are copies of the model. On the CPU they share weights and threads, so the first does
  /// all the work; on GPUs each has its own, and these are the numbers on each GPU, or on all of
  /// them where `tensor_parallel_degree` says how many a copy takes. None (max_workers 0) gives the
  /// memory back and refuses requests.
  uint32_t min_workers = 1;
  uint32_t max_workers = 1;
  /// What becomes of these where the model turns out to be on GPUs.
  uint32_t gpu_min_workers = unset_workers;
  uint32_t gpu_max_workers = unset_workers;
  /// Both count the workers of all GPUs together. Found out by loading.
  bool counted_together = false;
  std::vector<device_workers> on_devices; ///< Others than on the rest, as scaling asked for.
  bool parallel_loading = false;          ///< Copies load side by side, not one after the other.
  uint32_t sum_up_every = 0;   ///< So many requests are summed up in log and metrics; 0: never.
  uint64_t reserved_bytes = 0; ///< Of the device's memory, to be left free by loading it.
  uint64_t required_bytes = 0; ///< What loading takes at least, whatever the plan says.
};

enum class worker_state : uint8_t {
  loading,
  ready,
  unloading, ///< It finishes what it has, and ends.
};

/// One worker, as the management API shows it.
struct worker_status {
  uint32_t id = 0;      ///< Counted up; never used again by the same model.
  int64_t since_ms = 0; ///< When it started, milliseconds since 1970.
  worker_state state = worker_state::ready;
};

/// The workers on one device, or on several GPUs that hold a copy together.
struct worker_group {
  int32_t device = -1;          ///< A GPU's number, the first of several; -1 is the CPU.
  std::vector<int32_t> devices; ///< All of them; empty: the CPU.
  uint32_t min_workers = 1;
  uint32_t max_workers = 1;
  std::vector<worker_status> workers;
};

/// Asks for other numbers of workers; negative leaves a number as it is. `min` is cut to `max`.
struct worker_scaling {
  std::string model;
  std::string version; ///< Empty: every version.
  int64_t min = -1;
  int64_t max = -1;
  std::vector<int32_t> devices; ///< Only there, GPUs by number, -1 the CPU; empty: everywhere.
};

/// The GPUs of each copy, those of one together. None: the only place is the CPU.
using device_groups = std::vector<std::vector<int32_t>>;

/// Gives `min_workers` and `max_workers` the numbers for GPUs.
/// @param chosen How many GPUs a copy takes was asked for.
void count_for_gpus(registration& as, const device_groups& groups, bool chosen);

/// The numbers of the group at `index`, 0 for the CPU.
device_workers workers_on(const registration& as, const device_groups& groups, size_t index);

/// Whether any worker may be anywhere.
bool any_workers(const registration& as, const device_groups& groups);

/// The numbers that `wanted` leaves a model with. Errors: ec::bad_option: a device on which it
/// cannot be.
caf::expected<registration> scaled(registration as, const worker_scaling& wanted,
                                   const device_groups& groups);

/// A model's name in sentences, logs and metrics: "name", or "name:version".
inline std::string label_of(const std::string& name, const std::string& version) {
  return version.empty() ? name : name + ":" + version;
}

} // namespace troupe
