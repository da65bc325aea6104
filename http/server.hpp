#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include <caf/expected.hpp>
#include <caf/fwd.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/http/settings.hpp"

namespace troupe::http {

/// The HTTP front end: listens, speaks every dialect, and knows of the rest of the program only the
/// engine actor's interface. Runs on threads of its own; all functions may be called from any
/// thread but the server's own ones.
class server {
public:
  /// Takes the address, so that nobody else can, but refuses connections until `listen`.
  /// @param metrics Rendered at /metrics; may be null.
  /// Errors: ec::bad_option with address and reason when the port is taken, the name cannot be
  /// resolved, or the certificate is unusable.
  static caf::expected<std::unique_ptr<server>> open(caf::actor_system& system, engine_actor engine,
                                                     telemetry::metrics_ptr metrics,
                                                     server_settings settings);

  /// Answers from now on. Once. Errors: ec::bad_option when somebody else was faster.
  caf::error listen();

  /// `open` and `listen`.
  static caf::expected<std::unique_ptr<server>> start(caf::actor_system& system,
                                                      engine_actor engine,
                                                      telemetry::metrics_ptr metrics,
                                                      server_settings settings);

  /// Stops at once if `stop` was not called.
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// The port that is listened on; 0 for a Unix socket.
  uint16_t port() const;

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
