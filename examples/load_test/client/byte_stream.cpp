#include "troupe/examples/load_test/client/byte_stream.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

namespace troupe::load_test {

namespace asio = boost::asio;

byte_stream::~byte_stream() {
  SSL_free(session_);
}

void byte_stream::open(int receive_buffer, boost::system::error_code& error) {
  SSL_free(session_);
  session_ = nullptr;
  why_.clear();
  if (socket_.is_open())
    close();
  socket_.open(to_.endpoint.protocol(), error);
  if (error)
    return;
  // Before connecting, because the window is announced then.
  if (receive_buffer > 0)
    socket_.set_option(asio::socket_base::receive_buffer_size{receive_buffer}, error);
  socket_.non_blocking(true, error);
  boost::system::error_code ignored; // Unix sockets have no such option
  socket_.set_option(asio::ip::tcp::no_delay{true}, ignored);
}

byte_stream::result byte_stream::handshake() {
  if (!to_.tls)
    return {};
  if (!session_) {
    session_ = SSL_new(to_.tls->native());
    if (!session_) {
      why_ = "TLS: out of memory";
      return {status::broken, 0};
    }
    SSL_set_fd(session_, socket_.native_handle());
    SSL_set_connect_state(session_);
    const auto& host = to_.where.host;
    SSL_set_tlsext_host_name(session_, host.c_str());
    if (!to_.tls->insecure() &&
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session_), host.c_str()) != 1)
      SSL_set1_host(session_, host.c_str());
  }
  return tls_result(SSL_connect(session_));
}

byte_stream::result byte_stream::tls_result(int returned) {
  if (returned > 0)
    return {status::ok, static_cast<size_t>(returned)};
  auto kind = SSL_get_error(session_, returned);
  if (kind == SSL_ERROR_WANT_READ)
    return {status::want_read, 0};
  if (kind == SSL_ERROR_WANT_WRITE)
    return {status::want_write, 0};
  if (kind == SSL_ERROR_ZERO_RETURN)
    return {status::closed, 0};
  auto code = ERR_get_error();
  ERR_clear_error();
  if (code == 0 || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    why_ = kind == SSL_ERROR_SYSCALL && errno != 0 ? std::strerror(errno) : "closed without a word";
    return {status::closed, 0};
  }
  why_ = "TLS: ";
  const auto* text = ERR_reason_error_string(code);
  why_ += text ? text : "unknown failure";
  if (auto verdict = SSL_get_verify_result(session_);
      ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
    why_ += std::string{" ("} + X509_verify_cert_error_string(verdict) +
            "); name the certificate with --ca-file, or accept any with --insecure";
  return {status::broken, 0};
}

byte_stream::result byte_stream::failed(const boost::system::error_code& error,
                                        status when_blocked) {
  if (error == asio::error::would_block || error == asio::error::try_again)
    return {when_blocked, 0};
  if (error == asio::error::eof)
    return {status::closed, 0};
  why_ = error.message();
  return {status::broken, 0};
}

byte_stream::result byte_stream::read(char* to, size_t size) {
  if (session_) {
    errno = 0;
    return tls_result(SSL_read(session_, to, static_cast<int>(std::min<size_t>(size, INT_MAX))));
  }
  boost::system::error_code error;
  auto bytes = socket_.read_some(asio::buffer(to, size), error);
  return error ? failed(error, status::want_read) : result{status::ok, bytes};
}

byte_stream::result byte_stream::write(std::string_view from) {
  if (session_) {
    errno = 0;
    return tls_result(
        SSL_write(session_, from.data(), static_cast<int>(std::min<size_t>(from.size(), INT_MAX))));
  }
  boost::system::error_code error;
  auto bytes = socket_.write_some(asio::buffer(from.data(), from.size()), error);
  return error ? failed(error, status::want_write) : result{status::ok, bytes};
}

void byte_stream::finish_writing() {
  if (session_)
    SSL_shutdown(session_);
  ERR_clear_error();
  boost::system::error_code ignored;
  socket_.shutdown(socket::shutdown_send, ignored);
}

void byte_stream::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

bool byte_stream::quiet() {
  char byte = 0;
  auto got = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  // TLS 1.3 sends session tickets whenever it likes: those are no end.
  return got < 0 ? errno == EAGAIN || errno == EWOULDBLOCK : got > 0 && session_ != nullptr;
}

} // namespace troupe::load_test
