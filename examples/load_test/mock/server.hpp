#pragma once

#include <cstdint>
#include <memory>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/mock/settings.hpp"

namespace troupe::load_test {

/// A server without a model that answers every dialect at set times: what a load generator measures
/// of it must be what was set. Listens on the loopback interface.
class mock_server {
public:
  /// @param port 0: any free one. Errors: ec::bad_option when the port cannot be had.
  static caf::expected<std::unique_ptr<mock_server>> start(const mock_settings& settings,
                                                           uint16_t port = 0);
  /// Ends all connections.
  ~mock_server();
  uint16_t port() const;
  /// Requests that came.
  uint64_t requests() const;

private:
  class impl;
  explicit mock_server(std::unique_ptr<impl> inside);
  std::unique_ptr<impl> impl_;
};

} // namespace troupe::load_test
