#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>

#include "troupe/examples/load_test/client/target.hpp"

struct ssl_st;

namespace troupe::load_test {

/// The client's end of a connection, plain or TLS, never blocking: tries now, and says what to wait
/// for. One thread at a time.
class byte_stream {
public:
  using socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol,
                                                  boost::asio::io_context::executor_type>;

  enum class status : uint8_t {
    ok,
    want_read,  ///< Nothing now; try again once the socket is readable.
    want_write, ///< Nothing now; try again once it is writable.
    closed,     ///< The peer said that it will send no more.
    broken,     ///< `why()` says in which way.
  };
  struct result {
    status state = status::ok;
    size_t bytes = 0;
  };

  byte_stream(boost::asio::io_context& io, const target& to) : socket_{io}, to_{to} {}
  ~byte_stream();
  byte_stream(const byte_stream&) = delete;
  byte_stream& operator=(const byte_stream&) = delete;

  /// Begins to connect; `done(error)` follows. @param receive_buffer Bytes, 0 = the system's.
  template <class F>
  void connect(int receive_buffer, F&& done) {
    boost::system::error_code error;
    open(receive_buffer, error);
    if (error)
      return boost::asio::post(socket_.get_executor(),
                               [error, done = std::forward<F>(done)]() mutable { done(error); });
    socket_.async_connect(to_.endpoint, std::forward<F>(done));
  }

  /// TLS's handshake, to be called until it says ok; ok at once without TLS.
  result handshake();
  result read(char* to, size_t size);
  result write(std::string_view from);

  template <class F>
  void wait_readable(F&& done) {
    socket_.async_wait(socket::wait_read, std::forward<F>(done));
  }
  template <class F>
  void wait_writable(F&& done) {
    socket_.async_wait(socket::wait_write, std::forward<F>(done));
  }

  /// Says that nothing more will be sent.
  void finish_writing();
  /// Ends all waits.
  void close();
  bool is_open() const { return socket_.is_open(); }
  /// An idle connection that still waits for requests: the peer has sent nothing, not even its end.
  bool quiet();
  const std::string& why() const { return why_; }

private:
  void open(int receive_buffer, boost::system::error_code& error);
  result tls_result(int returned);
  result failed(const boost::system::error_code& error, status when_blocked);

  socket socket_;
  const target& to_;
  ssl_st* session_ = nullptr;
  std::string why_;
};

} // namespace troupe::load_test
