#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "troupe/actors/generation.hpp"
#include "troupe/config/model_request.hpp"
#include "troupe/http/settings.hpp"

namespace troupe::http {

/// What a request to register a model comes to, before anything is loaded.
struct prepared_model {
  model_spec spec;
  dialect_settings dialect; ///< How the routes of text generation answer for it.
  std::vector<std::string> warnings;
};

/// Finds a model's files and settings. Blocks as long as that takes, a download included; called on
/// threads of their own, several at once. Errors: ec::model_not_found (nothing is there),
/// bad_model, bad_option, unsupported_model, cancelled (the token said stop).
using model_source = std::function<caf::expected<prepared_model>(
    const config::model_request& wanted, std::stop_token stop)>;

} // namespace troupe::http
