#pragma once

#include <memory>

#include "troupe/actors/interfaces.hpp"
#include "troupe/http/engine_link.hpp"

namespace troupe::http {

/// The sink of one request: posts its events to the connection's port, hands credit back, and
/// cancels when the client leaves. It sees to it that the port gets an end whatever happens to the
/// engine.
using relay_actor = event_sink::extend<
    // From the connection: so much weight has left.
    caf::reacts_to<credit_atom, uint32_t>,
    // From the connection: the client is gone.
    caf::reacts_to<cancel_atom>>;

struct relay_state {
  static constexpr const char* name = "relay";
  std::shared_ptr<event_port> port;
  uint32_t part = 0;
  telemetry::metrics_ptr metrics;
  request_actor request;     ///< Null until the engine has admitted the request.
  uint32_t early_credit = 0; ///< Granted before that.
  bool ended = false;
};

using relay_ptr = relay_actor::stateful_pointer<relay_state>;

relay_actor::behavior_type relay(relay_ptr self, engine_actor engine, generation_request request,
                                 std::shared_ptr<event_port> port, uint32_t part,
                                 telemetry::metrics_ptr metrics);

/// The link to an engine actor.
std::unique_ptr<engine_link> link_engine(caf::actor_system& system, engine_actor engine,
                                         std::shared_ptr<front_state> state);

} // namespace troupe::http
