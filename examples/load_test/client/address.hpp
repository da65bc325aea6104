#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

namespace troupe::load_test {

/// Where a server listens, as a URL says.
struct address {
  std::string host; ///< Empty for a Unix socket.
  uint16_t port = 0;
  std::string unix_path;
  bool tls = false;
  std::string path; ///< Without a slash at its end; may be empty.

  /// For the Host header.
  std::string authority() const;
};

/// "http://host:port/path", "https://...", "host:port", "unix:/path". Errors: ec::bad_option, with
/// what is allowed.
caf::expected<address> parse_address(std::string_view url);

/// The path of a request: `wanted` below the URL's own path. A URL that ends in `wanted` already,
/// or in a head of it such as "/v1", is understood as such.
std::string path_below(const address& a, std::string_view wanted);

} // namespace troupe::load_test
