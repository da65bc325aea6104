#include <algorithm>
#include <chrono>

#include <caf/io/all.hpp>
#include <caf/io/network/default_multiplexer.hpp>
#include <caf/io/network/scribe_impl.hpp>

#include "troupe/actors/published_engine.hpp"
#include "troupe/runtime/embed.hpp"

namespace troupe {

namespace {

using namespace std::chrono_literals;

constexpr auto connect_patience = 10s;

/// Of one message. A prompt of millions of tokens fits.
constexpr size_t largest_message = 16 << 20;

namespace network = caf::io::network;

/// A connection whose peer cannot claim memory by announcing a message of up to 4 GiB: CAF makes
/// room for what a header announces. What is announced beyond the limit is cut, whereupon CAF sees
/// a payload that does not fit its header, and closes the connection.
class bounded_connection : public network::scribe_impl {
public:
  using network::scribe_impl::scribe_impl;
  void configure_read(caf::io::receive_policy::config wanted) override {
    wanted.second = std::min(wanted.second, largest_message);
    network::scribe_impl::configure_read(wanted);
  }
};

class bounded_network : public network::default_multiplexer {
public:
  using network::default_multiplexer::default_multiplexer;
  caf::io::scribe_ptr new_scribe(network::native_socket socket) override {
    network::keepalive(socket, true);
    return caf::make_counted<bounded_connection>(*this, socket);
  }
};

/// Messages may change their members with a minor version.
std::string protocol() {
  std::string version = TROUPE_VERSION;
  return "troupe-" + version.substr(0, version.rfind('.'));
}

std::string named(const std::string& address, uint16_t port) {
  return address + ':' + std::to_string(port);
}

caf::error no_network() {
  return caf::make_error(ec::bad_option,
                         std::string{"the actor system has no network module: call "
                                     "troupe::configure_network in its configuration"});
}

} // namespace

caf::actor_system_config& configure_network(caf::actor_system_config& config) {
  config.load<caf::io::middleman, bounded_network>();
  config.set("middleman.app-identifiers", std::vector<std::string>{protocol()});
  config.set("middleman.heartbeat-interval", caf::timespan{10s});
  config.set("middleman.connection-timeout", caf::timespan{30s});
  return config;
}

caf::expected<uint16_t> publish_engine(caf::actor_system& system, const engine_actor& engine,
                                       uint16_t port, const std::string& address) {
  if (!system.has_middleman())
    return no_network();
  auto published = spawn_published_engine(system, engine);
  auto bound = system.middleman().publish(published, port, address.c_str(), true);
  if (bound)
    return bound;
  caf::anon_send_exit(published, caf::exit_reason::kill);
  return caf::make_error(ec::bad_option, "cannot publish the engine on " + named(address, port) +
                                             ": " + system.render(bound.error()) +
                                             "; is the port taken, or the address not ours?");
}

caf::expected<engine_actor> remote_engine(caf::actor_system& system, const std::string& address,
                                          uint16_t port) {
  if (!system.has_middleman())
    return no_network();
  auto failure = [&](const std::string& what, const std::string& remedy) {
    return caf::make_error(ec::unreachable,
                           "no engine at " + named(address, port) + ": " + what + "; " + remedy);
  };
  caf::expected<engine_actor> result{caf::error{}};
  auto take = [&](const caf::node_id&, const caf::strong_actor_ptr& actor,
                  const std::set<std::string>& interface) {
    if (!actor)
      result = failure("nothing is published there", "start `troupe serve` with --publish-port");
    else if (!system.assignable(interface, system.message_types<engine_actor>()))
      result = failure("another kind of actor is published there", "check the port");
    else
      result = caf::actor_cast<engine_actor>(actor);
  };
  caf::scoped_actor self{system};
  self->request(system.middleman().actor_handle(), connect_patience, caf::connect_atom::value,
                address, port)
      .receive(take, [&](const caf::error& why) {
        result = failure(system.render(why), "check address and port, that a server is published "
                                             "there, and that both run " +
                                                 protocol());
      });
  return result;
}

} // namespace troupe
