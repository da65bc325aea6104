#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe {

/// What tokenizer_config.json and special_tokens_map.json say, the chat template apart.
struct tokenizer_settings {
  special_roles roles; ///< Texts only; ids are looked up once there is a vocabulary.
  /// JSON array of the tokens that the vocabulary has to know, as tt_tokenizer_parse takes them.
  std::string added_tokens = "[]";
  std::optional<size_t> model_max_length;
  bool pads_left = false;
  bool cleans_up_spaces = false;
};

namespace tokenizing {

/// Reads both files' texts; an empty text counts as an absent file. Where both name a role the
/// former wins. Errors: ec::bad_model naming the file.
caf::expected<tokenizer_settings> read_settings(std::string_view config_json,
                                                const std::string& config_name,
                                                std::string_view map_json,
                                                const std::string& map_name);

/// The templates in a tokenizer_config.json: name and source; the unnamed one is "default".
/// Errors: ec::bad_model naming the file.
caf::expected<std::vector<std::pair<std::string, std::string>>>
read_templates(std::string_view config_json, const std::string& config_name);

/// {"bos_token": "...", ...} with the roles that are there.
std::string roles_as_json(const special_roles& roles);

/// Whether a chat's context has tools, i.e. `tools` is there and not null.
bool has_tools(std::string_view context_json);

} // namespace tokenizing
} // namespace troupe
