#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

/// What can be asked of the server. The router answers nothing that isn't listed here, and
/// /openapi.json describes all that is, so a route cannot be added without its description.
namespace troupe::http {

/// Whether a route needs an API key where the server has any.
enum class access : uint8_t { open, guarded };

/// One path. Strings are literals.
struct route_entry {
  /// As OpenAPI writes it; `{name}` stands for one part of the path, a last `{name}*` for all that
  /// follows.
  std::string_view path;
  std::string_view methods; ///< Those that are described, apart by spaces: "GET POST".
  access who = access::guarded;
  std::string_view tag;     ///< Group in the description.
  std::string_view summary; ///< A sentence without a full stop.
  std::string_view request; ///< Schema of the body (openapi_schemas.cpp); empty: there is none.
  /// Of a success: schemas of JSON bodies and media types of others, apart by spaces; empty: no
  /// body. Where methods differ, one after the other, apart by '|'.
  std::string_view answer;
  std::string_view query = {}; ///< Query parameters, apart by spaces; none is required.
};

std::span<const route_entry> route_table();

/// The entry that a decoded path belongs to, or null.
const route_entry* find_route(std::string_view path);

/// GET /openapi.json: all routes with their bodies, as OpenAPI 3.1.
std::string openapi_document(std::string_view version);

/// The JSON object of the schemas that `request` and `answer` name.
std::string_view openapi_schemas();

} // namespace troupe::http
