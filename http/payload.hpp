#pragma once

#include <string>
#include <variant>

#include "troupe/http/dialects/fields.hpp"
#include "troupe/http/json/value.hpp"
#include "troupe/http/message.hpp"

namespace troupe::http {

/// An inference request's body as a JSON value, and what forms say beside it.
struct payload {
  json::value body;
  std::string model{};     ///< Form part model_name.
  std::string model_url{}; ///< Form part of that name.
  std::string list_type{}; ///< Set: a type whose body is a list of inputs.
};

/// Reads a body by its content type (contract http.md §4.2).
/// @param json_only OpenAI's and TGI's routes.
std::variant<payload, problem> read_payload(const request& r, bool json_only);

} // namespace troupe::http
