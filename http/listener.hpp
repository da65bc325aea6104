#pragma once

#include <memory>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include <caf/expected.hpp>

#include "troupe/http/connection.hpp"

namespace troupe::http {

/// Accepts clients and spreads them over the loops. Lives on the first loop's thread.
class listener : public std::enable_shared_from_this<listener> {
public:
  listener(std::shared_ptr<front_end> front, std::vector<std::shared_ptr<io_loop>> loops,
           listen_address where, listener_traits traits, size_t max_connections);

  /// Takes the port, or looks whether the path is free. Any thread, before `listen`. Errors:
  /// ec::bad_option.
  caf::error open();

  /// Any thread, before `start`. Errors: ec::bad_option.
  caf::error listen();

  void start();
  /// A second time does nothing.
  void close();
  uint16_t port() const { return port_; }

private:
  caf::error open_tcp();
  caf::error open_unix();
  template <class Acceptor>
  void accept(Acceptor& acceptor);
  void take(stream_socket socket, const std::shared_ptr<io_loop>& loop, std::string remote);

  std::shared_ptr<front_end> front_;
  std::vector<std::shared_ptr<io_loop>> loops_;
  listen_address where_;
  listener_traits traits_;
  size_t max_connections_;
  size_t next_ = 0;
  boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, boost::asio::io_context::executor_type>
      tcp_;
  boost::asio::basic_socket_acceptor<boost::asio::local::stream_protocol,
                                     boost::asio::io_context::executor_type>
      unix_;
  boost::asio::local::stream_protocol::endpoint unix_endpoint_;
  boost::asio::steady_timer pause_;
  uint16_t port_ = 0;
};

} // namespace troupe::http
