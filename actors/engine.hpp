#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <caf/all.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/model.hpp"
#include "troupe/actors/telemetry/metrics.hpp"

namespace troupe {

/// What an engine is spawned with.
struct engine_settings {
  model_factories factories = default_factories();
  uint64_t memory_bytes = 0; ///< What all models together may hold; 0 = what the machine has.
};

/// Starts an engine without models: the entrance for front ends and host applications (its messages
/// stand at `engine_actor` in actors/interfaces.hpp). Load models with (load_atom, model_spec).
///
/// The engine never blocks and may be published to other processes. `system` must know Troupe's
/// message types (`cfg.add_message_types<caf::id_block::troupe>()`) before it starts.
/// It ends, and with it all models and requests, when told by an exit message
/// (`stop_engine`) or when nobody holds a handle to it any more; requests in flight then end with
/// ec::shutting_down. `system` can only be destroyed after that.
/// @param metrics Shared with whoever renders them; must not be null.
engine_actor spawn_engine(caf::actor_system& system, telemetry::metrics_ptr metrics,
                          engine_settings settings = {});

/// Ends the engine and everything below it. Drain it first to let running requests finish.
void stop_engine(const engine_actor& engine);

/// The versions of one name.
struct routed_name {
  std::map<std::string, model_route> versions; ///< By version; never empty.
  size_t turn = 0;                             ///< Whose turn it is among several.
};

struct engine_state {
  static constexpr const char* name = "engine";

  /// Whatever way the engine ends, the supervisor ends with it.
  ~engine_state();

  telemetry::metrics_ptr metrics;
  supervisor_actor supervisor;
  std::map<std::string, routed_name, std::less<>> routes;
  bool draining = false;
};

using engine_ptr = engine_actor::stateful_pointer<engine_state>;

engine_actor::behavior_type engine_behavior(engine_ptr self, telemetry::metrics_ptr metrics,
                                            engine_settings settings);

} // namespace troupe
