#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

#include "troupe/examples/load_test/client/target.hpp"

namespace troupe::load_test {

struct fetched {
  uint16_t status = 0;
  std::string body;
};

/// One request on a connection of its own, waited for. Errors: ec::not_found with what failed.
/// @param body JSON; empty: none is sent.
caf::expected<fetched> fetch(const target& to, std::string_view method, std::string_view path,
                             std::string_view body = {},
                             std::chrono::milliseconds timeout = std::chrono::seconds{10});

} // namespace troupe::load_test
