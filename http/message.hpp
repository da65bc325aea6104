#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// A request and an answer as plain values, so that routes and dialects need no server to be
/// tested.
namespace troupe::http {

using name_value = std::pair<std::string, std::string>;

/// One request, body included.
struct request {
  std::string method;
  std::string target;              ///< As sent, for the log.
  std::string path;                ///< Decoded, without the query.
  std::vector<name_value> query;   ///< Decoded, in order.
  std::vector<name_value> headers; ///< Names in lower case; SageMaker's custom attributes unpacked.
  std::string body;
  std::string id;
  std::optional<size_t> key; ///< Of the API key that it came with, once that was checked.

  /// The first header or query value of that name (header names in lower case).
  const std::string* header(std::string_view name) const;
  const std::string* query_value(std::string_view name) const;
};

/// A whole answer. The connection adds what every response carries.
struct reply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::string reason;              ///< Reason phrase; empty = the status' usual one.
  std::vector<name_value> headers; ///< Further ones.
  bool inference = false;          ///< A handler's answer: it carries `requestId`.
  std::string note;                ///< Why it is an error, for the log; never sent.
};

/// Splits a request target into decoded path and query.
/// @returns false when it is no origin-form target or holds a broken escape.
bool parse_target(std::string_view target, request& to);

/// Decodes %XX (and + as a space where `plus` says so); nullopt for a broken escape.
std::optional<std::string> percent_decode(std::string_view text, bool plus);

/// Adds each `k=v` of `k1=v1;k2=v2` as a header (X-Amzn-SageMaker-Custom-Attributes).
void unpack_attributes(std::string_view text, request& to);

/// A named part of a form.
struct form_part {
  std::string name;
  std::string content;
};

/// Parts of an application/x-www-form-urlencoded or multipart/form-data body; nullopt when the
/// content type is neither or the body is not what it says.
std::optional<std::vector<form_part>> parse_form(std::string_view content_type,
                                                 std::string_view body);

/// `text` in lower case (ASCII only).
std::string lower(std::string_view text);

/// What may stand in a status line: printable ASCII, at most 200 characters.
std::string reason_phrase(std::string_view text);

} // namespace troupe::http
