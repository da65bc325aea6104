#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/actors/generation.hpp"
#include "troupe/http/message.hpp"

/// Answers that are made of the models' states.
namespace troupe::http {

using status_view = std::function<reply(const std::vector<model_status>&)>;

/// What the contract calls a model in that state: Healthy, PENDING, FAILED or Unhealthy.
std::string_view health_of(model_state state);

/// What decides the status of /ping beside the models' states.
struct ping_rules {
  bool multi_status = false;    ///< 207 instead of 200 while a model loads.
  bool fail_unhealthy = false;  ///< 500 when a model is unhealthy.
  bool too_many_errors = false; ///< 503 whatever else: an error_rate_* was exceeded once.
};

/// Shows those that were ready and are given up as if they still were (health_check_override).
void keep_ready(std::vector<model_status>& models);

/// GET /ping (contract http.md §3).
status_view ping_view(const ping_rules& rules);

/// /ping while the server drains: 503.
reply draining_reply();

/// GET /v1/models; with a name GET /v1/models/NAME.
status_view models_view(std::string name);

/// GET /health as TGI has it: 200 without a body as soon as a model can answer, else 503.
status_view health_view();
reply unhealthy_reply();

/// GET /info as TGI has it. @param name Of the model; empty = the first that can answer.
status_view info_view(std::string name, std::string version);

/// OPTIONS on a route that names a model: {} or 404.
status_view options_view(std::string name);

} // namespace troupe::http
