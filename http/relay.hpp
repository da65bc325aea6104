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

/// Events on the way, which are nearly all of its messages, it hands to the port on the thread of
/// whoever sends them: a turn of its own for each would cost more than all else about a token. What
/// ends the request waits for its turn, behind them.
class relay final : public relay_actor::stateful_base<relay_state> {
public:
  using super = relay_actor::stateful_base<relay_state>;

  relay(caf::actor_config& config, engine_actor engine, generation_request request,
        std::shared_ptr<event_port> port, uint32_t part, telemetry::metrics_ptr metrics);

  void enqueue(caf::mailbox_element_ptr message, caf::execution_unit* by) override;

protected:
  behavior_type make_behavior() override;

private:
  // Read by senders' threads, also when the state is gone already.
  const std::shared_ptr<event_port> port_;
  const uint32_t part_;
  const telemetry::metrics_ptr metrics_;
  engine_actor engine_;
  generation_request request_;
};

/// The link to an engine actor.
std::unique_ptr<engine_link> link_engine(caf::actor_system& system, engine_actor engine,
                                         std::shared_ptr<front_state> state);

} // namespace troupe::http
