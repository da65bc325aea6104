#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>

#include <caf/expected.hpp>

namespace troupe::http {

using stream_socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol,
                                                       boost::asio::io_context::executor_type>;

/// A certificate and its key, shared by all connections.
class tls_context {
public:
  /// Errors: ec::bad_option when a file cannot be read or the key does not fit.
  static caf::expected<std::shared_ptr<tls_context>> load(const std::string& certificate_file,
                                                          const std::string& key_file);
  /// Both out of a PKCS12 file, as Java's keystores are. Errors: ec::bad_option when it cannot be
  /// read, the password is wrong, or it lacks a key or a certificate.
  static caf::expected<std::shared_ptr<tls_context>> load_keystore(const std::string& file,
                                                                   const std::string& password);
  /// With a fresh RSA key, valid for a year. Errors: ec::bad_option when OpenSSL cannot.
  static caf::expected<std::shared_ptr<tls_context>> self_signed(const std::string& host);
  ~tls_context();
  tls_context(const tls_context&) = delete;
  tls_context& operator=(const tls_context&) = delete;
  void* native() const { return native_; }

private:
  explicit tls_context(void* native) : native_(native) {}
  static caf::expected<std::shared_ptr<tls_context>> make();
  void* native_;
};

/// A non-blocking byte stream over a socket, plain or TLS: tries now, and says what to wait for.
/// One thread at a time.
class transport {
public:
  enum class status : uint8_t {
    ok,         ///< `bytes` were moved.
    want_read,  ///< Nothing now; try again once the socket is readable.
    want_write, ///< Nothing now; try again once it is writable.
    closed,     ///< The peer closed its side, or the connection broke.
  };
  struct result {
    status state = status::ok;
    size_t bytes = 0;
  };

  /// @param tls May be null.
  transport(stream_socket socket, std::shared_ptr<tls_context> tls);
  ~transport();

  result read(char* to, size_t size);
  result write(std::string_view from);

  /// Calls `done` when the socket is readable (writable) or broken. One wait of each kind at a
  /// time.
  template <class F>
  void wait_readable(F&& done) {
    socket_.async_wait(stream_socket::wait_read, std::forward<F>(done));
  }
  template <class F>
  void wait_writable(F&& done) {
    socket_.async_wait(stream_socket::wait_write, std::forward<F>(done));
  }

  /// Says that nothing more will be written.
  void finish_writing();
  /// Ends all waits.
  void close();
  bool open() const { return socket_.is_open(); }

private:
  result tls_result(int returned);

  stream_socket socket_;
  std::shared_ptr<tls_context> tls_;
  void* session_ = nullptr;
};

} // namespace troupe::http
