#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include <caf/expected.hpp>
#include <caf/fwd.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/config/model_request.hpp"
#include "troupe/http/model_source.hpp"
#include "troupe/http/settings.hpp"

namespace troupe::http {

/// The HTTP front end: listens, speaks every dialect, and knows of the rest of the program only the
/// engine actor's interface. Runs on threads of its own; all functions may be called from any
/// thread but the server's own ones.
class server {
public:
  /// Takes the address, so that nobody else can, but refuses connections until `listen`.
  /// @param metrics Rendered at /metrics; may be null.
  /// @param source Prepares the models that `register_model` and the management API ask for; null:
  /// the host application loads its models into the engine by itself.
  /// Errors: ec::bad_option with address and reason when the port is taken, the name cannot be
  /// resolved, or the certificate is unusable.
  static caf::expected<std::unique_ptr<server>> open(caf::actor_system& system, engine_actor engine,
                                                     telemetry::metrics_ptr metrics,
                                                     server_settings settings,
                                                     model_source source = nullptr);

  /// Answers from now on. Once. Errors: ec::bad_option when somebody else was faster.
  caf::error listen();

  /// `open` and `listen`.
  static caf::expected<std::unique_ptr<server>>
  start(caf::actor_system& system, engine_actor engine, telemetry::metrics_ptr metrics,
        server_settings settings, model_source source = nullptr);

  /// Stops at once if `stop` was not called.
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// The port that is listened on; 0 for a Unix socket.
  uint16_t port() const;

  /// The port of the management API; that of everything else unless it has an address of its own.
  uint16_t management_port() const;

  /// Prepares and loads a model, which answers from then on; before `listen` too. It is listed at
  /// once, and stays listed when it fails. Returns at once. Errors: ec::name_taken, and then `done`
  /// is not called.
  /// @param done Called once, from some other thread. Errors: those of the source and of loading.
  caf::error register_model(config::model_request wanted,
                            std::function<void(caf::expected<model_status>)> done);

  /// From now on /ping answers 503, every answer closes its connection, and idle connections are
  /// closed. Returns at once. New requests are still read: the engine refuses them.
  void begin_drain();

  /// Listens no more, waits up to `grace` for answers on their way, then cancels what is left and
  /// joins the threads. Calls after the first do nothing.
  void stop(std::chrono::milliseconds grace);

private:
  struct parts;
  explicit server(std::unique_ptr<parts> parts);
  std::unique_ptr<parts> parts_;
};

/// Raises the soft limit of open files to the hard one.
/// @returns the limit now.
uint64_t raise_file_limit();

} // namespace troupe::http
