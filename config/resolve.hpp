#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/options.hpp"

namespace troupe::config {

/// The environment as a value, so that tests bring their own.
using environment = std::map<std::string, std::string, std::less<>>;

/// That of this process.
environment process_environment();

/// One setting given by the caller: a flag, or an argument of a management call.
struct assignment {
  std::string key; ///< As in the table.
  std::string text;
  std::string where; ///< "flag --dtype"
};

/// Reads "key=value" as `troupe serve -o` takes it. Errors: ec::bad_option.
caf::expected<assignment> parse_assignment(std::string_view text);

/// What settings are read from.
struct sources {
  std::vector<assignment> flags; ///< For server and model alike; each side takes its own.
  environment variables;
  std::filesystem::path config_file; ///< `--config-file`; empty: look below MODEL_SERVER_HOME.
  std::vector<assignment> arguments; ///< Of a register call, for this model; they win over all.
};

/// Settings, and what there is to say about them: unknown keys, values that have no effect.
struct resolved {
  settings values;
  std::vector<std::string> warnings; ///< One sentence each.
};

/// Server settings: SERVING_* over flags over the config file over defaults; `option::overrides`
/// over them all. Model keys are at their defaults, or at what the server layer says for
/// `scope::shared`.
/// Errors: ec::bad_option; the text has one line for every bad value, not only for the first.
caf::expected<resolved> resolve_server(const sources& from);

/// Settings of the model in `folder`: arguments of its register call over flags over
/// `option::overrides` over `folder`/serving.properties over OPTION_* over short-hands such as
/// TENSOR_PARALLEL_DEGREE over `server`. `folder` needs no serving.properties, and may be
/// empty: none.
/// Server keys keep the values of `server`. Errors: as above.
caf::expected<resolved> resolve_model(const sources& from, const settings& server,
                                      const std::filesystem::path& folder);

/// Where the weights of a model lie: `option.model_id` (from `folder` when relative and there),
/// else `folder`.
std::filesystem::path weights_folder(const settings& model, const std::filesystem::path& folder);

/// The name clients use: `option.served_model_name`, else the last part of `folder`.
std::string served_name(const settings& model, const std::filesystem::path& folder);

/// Where to listen.
struct endpoint {
  std::string host =
      "127.0.0.1";       ///< Name or address, IPv6 without brackets; unused with unix_path.
  uint16_t port = 8080;  ///< 0: any free one.
  std::string unix_path; ///< Not empty: listen on this socket file.
  bool tls = false;      ///< With certificate_file and private_key_file, which are set then.

  bool operator==(const endpoint&) const = default;
};

/// Puts `inference_address`, `host` and `port` together. The latter two replace their part of the
/// address (and a unix address altogether) unless it came from a place that wins over theirs.
/// Errors: ec::bad_option for another scheme, a missing host, a bad port, https without a key.
caf::expected<endpoint> listen_endpoint(const settings& server);

/// Where the management API listens: nothing when it shares the listener of `inference`, that is
/// when management_address is unset or says the same. Errors: as above.
caf::expected<std::optional<endpoint>> management_endpoint(const settings& server,
                                                           const endpoint& inference);

} // namespace troupe::config
