#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "troupe/config/model_request.hpp"
#include "troupe/http/message.hpp"
#include "troupe/http/status_views.hpp"

/// The management API (contract http.md §6, §7): what its requests ask for, and its answers. Plain
/// functions; neither actors nor sockets.
namespace troupe::http {

/// POST /models. `wanted.name` is never empty.
struct registration_request {
  config::model_request wanted;
  bool synchronous = true; ///< Answered once the model has loaded, rather than at once.
};

/// DELETE /models/NAME[/VERSION].
struct unregistration_request {
  std::string model;
  std::optional<std::string> version;
};

/// What a path under /models or /workflows asks for: an answer at once, a look at the models'
/// states, or a change.
using management_call =
    std::variant<reply, status_view, registration_request, worker_scaling, unregistration_request>;

/// @param at The path's parts; the first one is "models" or "workflows".
management_call read_management(const request& r, const std::vector<std::string_view>& at);

/// GET /models and GET /workflows: a page of them.
status_view list_view(bool workflows, size_t first, size_t limit);

/// GET /models/NAME[/VERSION].
status_view describe_view(std::string name, std::optional<std::string> version);

/// 200 or, for an asynchronous registration, 202.
reply registered_reply(const registration_request& asked);
reply scaled_reply(const worker_scaling& wanted, const std::vector<model_status>& models);
reply unregistered_reply(const std::string& name);

/// An error of registering, scaling or unregistering a model of that name.
reply management_error(const std::string& name, const std::string& version, const caf::error& why);

} // namespace troupe::http
