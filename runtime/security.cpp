#include "troupe/runtime/security.hpp"

namespace troupe::runtime {

caf::error secure(http::server_settings& to, const config::settings& server,
                  const std::vector<std::string>& keys) {
  if (server.has("keystore")) {
    to.keystore_file = server.text("keystore");
    to.keystore_password = server.text("keystore_pass");
  }
  for (const auto& line : keys) {
    auto key = http::parse_api_key(line);
    if (!key)
      return caf::make_error(ec::bad_option, "--api-key: " + text_of(key.error()));
    to.api_keys.push_back(std::move(*key));
  }
  if (!server.has("api_keys_file"))
    return {};
  auto listed = http::read_api_keys(server.text("api_keys_file"));
  if (!listed)
    return std::move(listed.error());
  to.api_keys.insert(to.api_keys.end(), std::make_move_iterator(listed->begin()),
                     std::make_move_iterator(listed->end()));
  return {};
}

} // namespace troupe::runtime
