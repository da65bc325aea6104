#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <caf/actor_system_config.hpp>
#include <caf/send.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/http/server.hpp"

/// What another CAF application needs to serve models in its own actor system (docs/embedding.md):
///
///     struct config : caf::actor_system_config {
///       config() { troupe::configure(*this); }
///     };
///     caf::actor_system system{cfg};
///     auto engine = troupe::start_engine(system);
///     // request(engine, caf::infinite, troupe::load_atom_v, spec), then submit_atom with a sink
///     // ... and at the end: troupe::stop_engine(engine);
///
/// All functions may be called from any thread; none throws, none blocks unless it says so.
namespace troupe {

/// Registers Troupe's message types (ids from 1200) and the text of its errors. Call in the
/// constructor of the configuration. Troupe's program also sets `scheduler.policy` to `sharing`,
/// which idles cheaply; a host keeps its own choice.
caf::actor_system_config& configure(caf::actor_system_config& config);

/// An engine in `system`, without models yet. It lives until `stop_engine`, or until nobody holds a
/// handle to it; its children die with it. `system` can only be destroyed after that. `metrics` may
/// be shared with a front end; without one the engine makes its own.
engine_actor start_engine(caf::actor_system& system, telemetry::metrics_ptr metrics = nullptr);

/// Loads a model and waits for it: for a host's start, not for an actor, which would rather
/// request (load_atom, model_spec). Errors: as engine_actor's load.
caf::expected<model_status> load_model(caf::actor_system& system, const engine_actor& engine,
                                       const model_spec& spec);

/// The same with the defaults for the model in `folder`; "" means the model without weights.
caf::expected<model_status> load_model(caf::actor_system& system, const engine_actor& engine,
                                       const std::string& name, const std::string& folder);

/// Ends the engine, its models and requests. Drain it first to let running requests finish.
void stop_engine(const engine_actor& engine);

/// Any actor that handles `event_batch` as the sink of requests, for example `sink_of(self)`. Its
/// end cancels them.
template <class Handle>
event_sink sink_of(const Handle& actor) {
  return caf::actor_cast<event_sink>(actor);
}

/// The request that sent the batch which `self` handles now; the same handle as submit's answer.
template <class Self>
request_actor request_of(Self* self) {
  return caf::actor_cast<request_actor>(self->current_sender());
}

/// Call in the handler of an `event_batch` once it has been dealt with. A request has
/// `initial_credit` bytes of events under way at most: without grants it pauses, and after
/// `generation_request::read_timeout_ms` it ends with ec::slow_reader.
template <class Self>
void grant(Self* self, const event_batch& events) {
  if (auto request = request_of(self); request && !events.complete && !events.failure)
    self->send(request, credit_atom_v, events.weight);
}

// -- engines in other processes ------------------------------------------------------------------

/// What publishing and connecting need: loads CAF's middleman (a host must not load it again),
/// whose heartbeats notice silent peers within 40 s, and lets only processes of the same minor
/// version of Troupe connect. Call after `configure`, and before a setting of the host's own under
/// `middleman.`.
caf::actor_system_config& configure_network(caf::actor_system_config& config);

/// Lets other processes send requests to `engine`, and nothing else (actors/published_engine.hpp).
/// CAF's protocol knows neither authentication nor encryption: whoever reaches the port can use the
/// models and take memory and time from this process. Keep it on loopback or inside of a network
/// that only trusted machines reach. Blocks for moments.
/// @param port 0 takes a free one.
/// @returns the port. Errors: ec::bad_option with the address and the reason.
caf::expected<uint16_t> publish_engine(caf::actor_system& system, const engine_actor& engine,
                                       uint16_t port, const std::string& address = "127.0.0.1");

/// The engine that another process has published there. Blocks for up to 10 s.
/// Errors: ec::unreachable: nobody there, no engine, or another version of Troupe. When the process
/// or the network dies later, monitors of the engine and of its requests hear of it.
caf::expected<engine_actor> remote_engine(caf::actor_system& system, const std::string& address,
                                          uint16_t port);

} // namespace troupe
