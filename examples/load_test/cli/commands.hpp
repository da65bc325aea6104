#pragma once

#include <cstdint>
#include <string>

#include "troupe/examples/load_test/cli/session.hpp"

namespace troupe::load_test {

/// What `troupe-load mock` was told.
struct mock_arguments {
  std::string settings;
  uint16_t port = 8080;
};

/// What `troupe-load compare` was told.
struct compare_arguments {
  std::string before, after;
};

CLI::App* add_mock(CLI::App& app, mock_arguments& to);
CLI::App* add_compare(CLI::App& app, compare_arguments& to);

/// Serves until SIGINT or SIGTERM.
exit_code run_mock(const mock_arguments& given);

/// Prints what differs; exit_code::fine whatever it is.
exit_code run_compare(const compare_arguments& given);

} // namespace troupe::load_test
