#pragma once

#include <memory>

#include <caf/actor_system_config.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/http/server.hpp"

/// What another CAF application needs to serve models in its own actor system:
///
///     struct config : caf::actor_system_config {
///       config() { troupe::configure(*this); }
///     };
///     caf::actor_system system{cfg};
///     auto engine = troupe::start_engine(system);
///     // request(engine, caf::infinite, troupe::load_atom_v, spec), then submit_atom with a sink
///     // ... and at the end: troupe::stop_engine(engine);
namespace troupe {

/// Registers Troupe's message types (ids from 1200) and the text of its errors. Call in the
/// constructor of the configuration. Troupe's program also sets `scheduler.policy` to `sharing`,
/// which idles cheaply; a host keeps its own choice.
caf::actor_system_config& configure(caf::actor_system_config& config);

/// An engine in `system`, without models yet. It lives until `stop_engine`, or until nobody holds a
/// handle to it; its children die with it. `system` can only be destroyed after that. `metrics` may
/// be shared with a front end; without one the engine makes its own.
engine_actor start_engine(caf::actor_system& system, telemetry::metrics_ptr metrics = nullptr);

/// Ends the engine, its models and requests. Drain it first to let running requests finish.
void stop_engine(const engine_actor& engine);

} // namespace troupe
