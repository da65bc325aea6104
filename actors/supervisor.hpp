#pragma once

#include <compare>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/memory_ledger.hpp"
#include "troupe/actors/model.hpp"
#include "troupe/actors/telemetry/metrics.hpp"

namespace troupe {

/// What tells registered models apart.
struct model_key {
  std::string name;
  std::string version; ///< Empty: it has none.

  auto operator<=>(const model_key&) const = default;
};

/// A registered model.
struct supervised_model {
  uint64_t serial = 0; ///< Tells it from earlier ones of the same key, whose answers come late.
  model_spec spec;
  model_actor actor;   ///< Null while it is dead, stopped or failed to load.
  std::string problem; ///< Why there is none.
  uint32_t deaths = 0;
  device_groups groups; ///< Where its copies may be, once it has loaded; none: the CPU.
  bool ready = false;   ///< Has loaded.
  bool stopped = false; ///< Scaled to no workers.
  bool leaving = false; ///< Being stopped or unloaded.
  bool unloading = false;
  caf::actor_clock::time_point since{}; ///< When it began to load.
  /// Told when it has loaded or failed to.
  std::vector<caf::typed_response_promise<model_status>> waiters;
};

struct supervisor_state {
  static constexpr const char* name = "supervisor";

  /// Whatever way the supervisor ends, its models end with it.
  ~supervisor_state();

  model_factories factories;
  telemetry::metrics_ptr metrics;
  /// Told of routes. Not held, so that an engine nobody holds any more ends, and all else with it.
  caf::actor_addr engine;
  memory_ledger memory;
  std::map<model_key, supervised_model> models;
  uint64_t serials = 0;
  bool draining = false;
};

using supervisor_ptr = supervisor_actor::stateful_pointer<supervisor_state>;

/// How long an unloaded model's running requests may go on.
inline constexpr uint32_t unload_drain_ms = 30'000;

/// @param memory_bytes What all models together may hold; 0 = `usable_memory()`.
supervisor_actor::behavior_type supervisor_behavior(supervisor_ptr self, caf::actor_addr engine,
                                                    model_factories factories,
                                                    telemetry::metrics_ptr metrics,
                                                    uint64_t memory_bytes);

} // namespace troupe
