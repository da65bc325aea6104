#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// How models stand in the engine's registry, and what the management API takes and shows of it.
namespace troupe {

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
  /// Workers are copies of the model. On one device they share weights and threads, so the first
  /// does all the work; none (max_workers 0) gives the memory back and refuses requests.
  uint32_t min_workers = 1;
  uint32_t max_workers = 1;
  uint32_t sum_up_every = 0;   ///< So many requests are summed up in log and metrics; 0: never.
  uint64_t reserved_bytes = 0; ///< Of the device's memory, to be left free by loading it.
  uint64_t required_bytes = 0; ///< What loading takes at least, whatever the plan says.
};

/// One worker, as the management API shows it.
struct worker_status {
  uint32_t id = 0;      ///< Counted up; never used again by the same model.
  int64_t since_ms = 0; ///< When it started, milliseconds since 1970.
  bool ready = true;    ///< false: it finishes what it has, and ends.
};

/// The workers on one device.
struct worker_group {
  int32_t device = -1; ///< A GPU's number; -1 is the CPU.
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
};

/// A model's name in sentences, logs and metrics: "name", or "name:version".
inline std::string label_of(const std::string& name, const std::string& version) {
  return version.empty() ? name : name + ":" + version;
}

} // namespace troupe
