#include "troupe/http/listener.hpp"

#include <unistd.h>

#include <boost/asio/post.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/error.hpp"
#include "troupe/http/errors.hpp"

namespace troupe::http {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr int backlog = 4096;
constexpr std::string_view other_path = "; choose another path";
constexpr std::string_view other_port = "; choose another address or port with --host and --port";
constexpr std::chrono::milliseconds pause_after_error{100};

/// What a client beyond the limit reads.
const std::string& full_answer() {
  static const auto text = [] {
    auto body = lmi_error(503, "ServiceUnavailableException", "Too many connections.").body;
    return "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
           "content-type: application/json\r\ncontent-length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }();
  return text;
}

caf::error cannot_listen(const std::string& where, const boost::system::error_code& why,
                         std::string_view remedy) {
  return caf::make_error(ec::bad_option,
                         "cannot listen on " + where + ": " + why.message() + std::string{remedy});
}

template <class Endpoint>
std::string name_of(const Endpoint& endpoint) {
  if constexpr (requires { endpoint.address(); })
    return endpoint.address().to_string();
  else
    return "unix";
}

} // namespace

listener::listener(std::shared_ptr<front_end> front, std::vector<std::shared_ptr<io_loop>> loops,
                   listen_address where, listener_traits traits, size_t max_connections)
    : front_(std::move(front)), loops_(std::move(loops)), where_(std::move(where)),
      traits_(std::move(traits)), max_connections_(max_connections), tcp_(loops_.front()->context),
      unix_(loops_.front()->context), pause_(loops_.front()->context) {}

caf::error listener::open() {
  return where_.unix_path.empty() ? open_tcp() : open_unix();
}

caf::error listener::open_tcp() {
  auto where = where_.host + ":" + std::to_string(where_.port);
  boost::system::error_code error;
  tcp::resolver resolver{loops_.front()->context};
  auto found = resolver.resolve(where_.host, std::to_string(where_.port),
                                tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty())
    return cannot_listen(where, error, "; give an address of this machine with --host");
  auto endpoint = found.begin()->endpoint();
  tcp_.open(endpoint.protocol(), error);
  if (!error)
    tcp_.set_option(asio::socket_base::reuse_address{true}, error);
  if (!error)
    tcp_.bind(endpoint, error);
  if (error)
    return cannot_listen(where, error, other_port);
  port_ = tcp_.local_endpoint().port();
  return {};
}

/// A socket's file shows up only with `listen`: whoever waits for it takes it for an open door.
caf::error listener::open_unix() {
  boost::system::error_code error;
  try {
    unix_endpoint_ = {where_.unix_path};
  } catch (const std::exception& x) {
    return caf::make_error(ec::bad_option,
                           "cannot listen on unix:" + where_.unix_path + ": " + x.what());
  }
  asio::local::stream_protocol::socket probe{loops_.front()->context};
  probe.connect(unix_endpoint_, error);
  if (!error)
    return cannot_listen("unix:" + where_.unix_path, asio::error::address_in_use, other_path);
  // A file that a former process left behind would keep us from binding.
  if (error == asio::error::connection_refused)
    ::unlink(where_.unix_path.c_str());
  return {};
}

caf::error listener::listen() {
  boost::system::error_code error;
  if (!where_.unix_path.empty()) {
    unix_.open(unix_endpoint_.protocol(), error);
    if (!error)
      unix_.bind(unix_endpoint_, error);
    if (!error)
      unix_.listen(backlog, error);
    return error ? cannot_listen("unix:" + where_.unix_path, error, other_path) : caf::error{};
  }
  tcp_.listen(backlog, error);
  return error ? cannot_listen(where_.host + ":" + std::to_string(port_), error, other_port)
               : caf::error{};
}

void listener::start() {
  if (tcp_.is_open())
    accept(tcp_);
  else
    accept(unix_);
}

void listener::close() {
  boost::system::error_code ignored;
  pause_.cancel();
  tcp_.close(ignored);
  if (unix_.is_open()) {
    unix_.close(ignored);
    ::unlink(where_.unix_path.c_str());
  }
}

template <class Acceptor>
void listener::accept(Acceptor& acceptor) {
  using accepted = typename Acceptor::protocol_type::socket::template rebind_executor<
      asio::io_context::executor_type>::other;
  auto loop = loops_[next_++ % loops_.size()];
  acceptor.async_accept(
      loop->context.get_executor(), [self = shared_from_this(), &acceptor,
                                     loop](boost::system::error_code error, accepted socket) {
        if (!acceptor.is_open())
          return;
        if (error) {
          // Mostly no file descriptor is left: others must close first.
          telemetry::log(telemetry::log_level::warn, {},
                         "cannot accept a connection: " + error.message());
          self->pause_.expires_after(pause_after_error);
          self->pause_.async_wait([self, &acceptor](boost::system::error_code cancelled) {
            if (!cancelled && acceptor.is_open())
              self->accept(acceptor);
          });
          return;
        }
        boost::system::error_code ignored;
        auto remote = socket.remote_endpoint(ignored);
        auto name = ignored ? std::string{"-"} : name_of(remote);
        if constexpr (requires { remote.address(); })
          socket.set_option(tcp::no_delay{true}, ignored);
        self->take(stream_socket{std::move(socket)}, loop, std::move(name));
        self->accept(acceptor);
      });
}

void listener::take(stream_socket socket, const std::shared_ptr<io_loop>& loop,
                    std::string remote) {
  if (front_->open.load(std::memory_order_relaxed) >= max_connections_) {
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
    if (!traits_.tls)
      socket.write_some(asio::buffer(full_answer()), ignored);
    return;
  }
  auto client =
      std::make_shared<connection>(front_, loop, traits_, std::move(socket), std::move(remote));
  asio::post(loop->context, [loop = loop.get(), client = std::move(client)] {
    loop->connections.insert(client);
    client->start();
  });
}

} // namespace troupe::http
