#include "troupe/examples/load_test/client/target.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>

#include "troupe/config/error.hpp"

namespace troupe::load_test {

namespace {

namespace asio = boost::asio;
using generic = asio::generic::stream_protocol;

/// Empty when a connection could be made.
std::string try_connect(const generic::endpoint& to, double timeout_s) {
  asio::io_context io;
  generic::socket socket{io};
  boost::system::error_code error;
  socket.open(to.protocol(), error);
  if (!error)
    socket.non_blocking(true, error);
  if (error)
    return error.message();
  if (::connect(socket.native_handle(), to.data(), static_cast<socklen_t>(to.size())) == 0)
    return {};
  if (errno != EINPROGRESS)
    return std::strerror(errno);
  pollfd waiting{socket.native_handle(), POLLOUT, 0};
  if (::poll(&waiting, 1, static_cast<int>(std::lround(timeout_s * 1000))) <= 0)
    return "no answer within " + std::to_string(std::lround(timeout_s)) + " s";
  int failed = 0;
  socklen_t size = sizeof failed;
  ::getsockopt(socket.native_handle(), SOL_SOCKET, SO_ERROR, &failed, &size);
  return failed == 0 ? std::string{} : std::strerror(failed);
}

} // namespace

caf::expected<std::shared_ptr<client_tls>> client_tls::make(const std::string& ca_file,
                                                            bool insecure) {
  auto* native = SSL_CTX_new(TLS_client_method());
  if (!native)
    return caf::make_error(ec::bad_option, "TLS cannot be set up");
  std::shared_ptr<client_tls> out{new client_tls{native, insecure}};
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_mode(native, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(native, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  if (ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(native);
  } else if (SSL_CTX_load_verify_locations(native, ca_file.c_str(), nullptr) != 1) {
    const auto* why = ERR_reason_error_string(ERR_get_error());
    ERR_clear_error();
    return caf::make_error(ec::bad_option, "--ca-file " + ca_file + " cannot be used: " +
                                               (why ? why : "unknown reason") +
                                               "; it must be a readable PEM file");
  }
  return out;
}

client_tls::~client_tls() {
  SSL_CTX_free(native_);
}

caf::expected<generic::endpoint> find_endpoint(const address& where, double timeout_s) {
  auto unreachable = [&](const std::string& why) {
    auto place = where.unix_path.empty() ? where.host + ":" + std::to_string(where.port)
                                         : "unix:" + where.unix_path;
    return caf::make_error(ec::not_found, "cannot connect to " + place + ": " + why +
                                              "; does the server run, and is the address right?");
  };
  if (!where.unix_path.empty()) {
    if (where.unix_path.size() > 107) // sockaddr_un holds no more
      return unreachable("the path is longer than 107 bytes");
    generic::endpoint to{asio::local::stream_protocol::endpoint{where.unix_path}};
    auto why = try_connect(to, timeout_s);
    if (!why.empty())
      return unreachable(why);
    return to;
  }
  asio::io_context io;
  asio::ip::tcp::resolver resolver{io};
  boost::system::error_code error;
  auto found = resolver.resolve(where.host, std::to_string(where.port),
                                asio::ip::tcp::resolver::numeric_service, error);
  if (error)
    return unreachable(error.message());
  std::string why = "the name has no address";
  for (const auto& entry : found) {
    generic::endpoint to{entry.endpoint()};
    why = try_connect(to, timeout_s);
    if (why.empty())
      return to;
  }
  return unreachable(why);
}

std::string request_head(const target& to, std::string_view method, std::string_view path,
                         std::string_view accept) {
  std::string out;
  out.append(method).append(" ").append(path).append(" HTTP/1.1\r\nHost: ");
  out += to.where.authority() + "\r\nUser-Agent: troupe-load/" TROUPE_VERSION "\r\nAccept: ";
  out.append(accept).append("\r\n");
  for (const auto& header : to.headers)
    out += header + "\r\n";
  return out;
}

std::string with_body(const std::string& head, std::string_view body) {
  auto length = std::to_string(body.size());
  std::string out;
  out.reserve(head.size() + body.size() + 80);
  out.append(head);
  if (!body.empty())
    out.append("Content-Type: application/json\r\nContent-Length: ").append(length).append("\r\n");
  out.append("\r\n").append(body);
  return out;
}

} // namespace troupe::load_test
