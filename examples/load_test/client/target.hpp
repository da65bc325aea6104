#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/generic/stream_protocol.hpp>
#include <caf/expected.hpp>

#include "troupe/examples/load_test/client/address.hpp"

struct ssl_ctx_st;

namespace troupe::load_test {

/// What a client needs for TLS, shared by its connections.
class client_tls {
public:
  /// @param ca_file  PEM; empty: the system's certificates.
  /// @param insecure Any certificate will do.
  /// Errors: ec::bad_option when the file cannot be used.
  static caf::expected<std::shared_ptr<client_tls>> make(const std::string& ca_file, bool insecure);
  ~client_tls();
  client_tls(const client_tls&) = delete;
  client_tls& operator=(const client_tls&) = delete;
  ssl_ctx_st* native() const { return native_; }
  bool insecure() const { return insecure_; }

private:
  client_tls(ssl_ctx_st* native, bool insecure) : native_{native}, insecure_{insecure} {}
  ssl_ctx_st* native_;
  bool insecure_;
};

/// A server, found and reachable.
struct target {
  address where;
  boost::asio::generic::stream_protocol::endpoint endpoint;
  std::shared_ptr<client_tls> tls; ///< Null: plain.
  /// "Name: value", sent with every request.
  std::vector<std::string> headers;
};

/// Looks the host up and takes the first of its addresses that accepts a connection, within
/// `timeout_s` seconds each. Errors: ec::not_found with the system's words.
caf::expected<boost::asio::generic::stream_protocol::endpoint> find_endpoint(const address& where,
                                                                             double timeout_s);

/// A whole request without a body's length and the body.
std::string request_head(const target& to, std::string_view method, std::string_view path,
                         std::string_view accept);

/// `head` with `body`, ready to be sent.
std::string with_body(const std::string& head, std::string_view body);

} // namespace troupe::load_test
