#pragma once

#include <memory>
#include <string>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include "troupe/config/options.hpp"
#include "troupe/runtime/embed.hpp"

namespace troupe::runtime {

/// The program's own actor system with an engine in it. One thread (main) uses it; its destructor
/// ends the engine and waits for every actor.
class host {
public:
  /// @param server The settings that size the actor system.
  explicit host(const config::settings& server);
  ~host();

  caf::actor_system& system() { return *system_; }
  const engine_actor& engine() const { return engine_; }
  const telemetry::metrics_ptr& metrics() const { return metrics_; }

  /// Loads a model, drawing progress on a terminal. SIGINT and SIGTERM end the wait with
  /// ec::cancelled. Errors: as engine_actor's load.
  caf::expected<model_status> load(const model_spec& spec);

  /// How much of a model has been loaded, 0..1. Waits a second for the answer at most.
  /// @param what Its name or URL.
  double progress(const std::string& what);

  /// Whether some model that was ready has failed for good. Waits a second for the answer at most.
  bool has_given_up();

  /// Lets running requests finish for so long at most. A second signal ends the wait: what still
  /// runs then gets its error event at once. True when all have ended by themselves.
  bool drain(std::chrono::milliseconds timeout);

private:
  struct configuration;
  std::unique_ptr<configuration> config_;
  std::unique_ptr<caf::actor_system> system_;
  telemetry::metrics_ptr metrics_;
  engine_actor engine_;
};

} // namespace troupe::runtime
