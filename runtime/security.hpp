#pragma once

#include <string>
#include <vector>

#include <caf/error.hpp>

#include "troupe/config/options.hpp"
#include "troupe/http/settings.hpp"

namespace troupe::runtime {

/// Takes certificates, keystore and API keys into the front end's settings.
/// @param keys Those of the command line, in the form of a line of api_keys_file.
/// Errors: ec::bad_option for keys that cannot be read; no message holds a key.
caf::error secure(http::server_settings& to, const config::settings& server,
                  const std::vector<std::string>& keys);

} // namespace troupe::runtime
