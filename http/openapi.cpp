#include <algorithm>

#include "troupe/http/json/write.hpp"
#include "troupe/http/message.hpp"
#include "troupe/http/route_table.hpp"
#include "troupe/http/router.hpp"

namespace troupe::http {

namespace {

bool is_media_type(std::string_view answer) {
  return answer.find('/') != std::string_view::npos;
}

/// Takes the first of a list's items that `separator` parts.
std::string_view next_item(std::string_view& list, char separator) {
  auto item = list.substr(0, list.find(separator));
  list.remove_prefix(std::min(list.size(), item.size() + 1));
  return item;
}

void append_reference(std::string& out, std::string_view schema) {
  out.append("{\"$ref\":\"#/components/schemas/").append(schema).append("\"}");
}

/// TYPE: {"schema": ...}; events or text where there is no schema.
void append_media(std::string& out, std::string_view type, std::string_view schema) {
  json::append_string(out, type);
  out += ":{\"schema\":";
  if (schema.empty() && type == "text/event-stream")
    append_reference(out, "Event");
  else if (schema.empty())
    out += "{\"type\":\"string\"}";
  else
    append_reference(out, schema);
  out += '}';
}

/// {"content": {TYPE: {"schema": ...}}} without the outer braces.
void append_content(std::string& out, std::string_view type, std::string_view schema) {
  out += "\"content\":{";
  append_media(out, type, schema);
  out += '}';
}

void append_parameter(std::string& out, std::string_view name, bool in_path) {
  if (!out.ends_with('['))
    out += ',';
  out += "{\"name\":";
  json::append_string(out, name);
  out +=
      in_path
          ? ",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\",\"minLength\":1}}"
          : ",\"in\":\"query\",\"schema\":{\"type\":\"string\"}}";
}

void append_parameters(std::string& out, const route_entry& entry) {
  out += "\"parameters\":[";
  auto path = entry.path;
  for (auto at = path.find('{'); at != std::string_view::npos; at = path.find('{', at + 1))
    append_parameter(out, path.substr(at + 1, path.find('}', at) - at - 1), true);
  for (auto query = entry.query; !query.empty();)
    append_parameter(out, next_item(query, ' '), false);
  out += ']';
}

/// What a success of the method at `place` looks like: JSON of one of some schemas, other media.
void append_success(std::string& out, const route_entry& entry, size_t place) {
  auto answers = entry.answer;
  for (; place > 0 && answers.find('|') != std::string_view::npos; --place)
    next_item(answers, '|');
  answers = answers.substr(0, answers.find('|'));
  out += "\"2XX\":{\"description\":\"The answer\"";
  if (!answers.empty()) {
    out += ",\"content\":{";
    while (!answers.empty()) {
      auto one = next_item(answers, ' ');
      append_media(out, is_media_type(one) ? one : "application/json",
                   is_media_type(one) ? "" : one);
      if (!answers.empty())
        out += ',';
    }
    out += '}';
  }
  out += '}';
}

/// Statuses apart by spaces, and what a body with one of them looks like.
struct failure {
  std::string_view statuses;
  std::string_view schema;
};

/// Errors look different from family to family.
std::vector<failure> failures_of(const route_entry& entry) {
  if (entry.path == "/ping")
    return {{"500", "ModelStates"}, {"503", "PingRefusal"}, {"400 405", "LmiError"}};
  switch (style_of(entry.path)) {
  case error_style::openai:
    return {{"400 401 404 405 408 409 413 429 500 503", "OpenAiError"}};
  case error_style::tgi:
    return {{"400 401 404 405 408 413 422 424 429 503", "TgiError"}};
  default:
    break;
  }
  if (entry.tag == "lmi")
    return {{"400 401 404 413 429 500 503", "LmiError"}, {"424 507", "HandlerError"}};
  return {{"400 401 404 405 409 413 500 503 507", "LmiError"}};
}

void append_answers(std::string& out, const route_entry& entry, size_t place) {
  out += "\"responses\":{";
  append_success(out, entry, place);
  for (auto [statuses, schema] : failures_of(entry))
    while (!statuses.empty()) {
      out += ',';
      json::append_string(out, next_item(statuses, ' '));
      out += ":{\"description\":\"What went wrong and what to do about it\",";
      append_content(out, "application/json", schema);
      out += '}';
    }
  out += '}';
}

/// @param place Of the method among the entry's.
void append_operation(std::string& out, const route_entry& entry, std::string_view method,
                      size_t place) {
  json::append_string(out, lower(method));
  out += ":{\"tags\":[";
  json::append_string(out, entry.tag);
  out += "],\"summary\":";
  json::append_string(out, entry.summary);
  out += ',';
  append_parameters(out, entry);
  if (!entry.request.empty()) {
    out += ",\"requestBody\":{\"required\":true,";
    append_content(out, "application/json", entry.request);
    out += '}';
  }
  if (entry.who == access::guarded)
    out += ",\"security\":[{},{\"bearer\":[]},{\"header\":[]}]";
  out += ',';
  append_answers(out, entry, place);
  out += '}';
}

void append_path(std::string& out, const route_entry& entry) {
  auto path = entry.path;
  if (path.ends_with('*'))
    path.remove_suffix(1);
  json::append_string(out, path);
  out += ":{";
  auto methods = entry.methods;
  for (size_t place = 0; !methods.empty(); ++place) {
    if (place > 0)
      out += ',';
    append_operation(out, entry, next_item(methods, ' '), place);
  }
  out += '}';
}

} // namespace

std::string openapi_document(std::string_view version) {
  std::string out = "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Troupe\",\"description\":"
                    "\"Serves language models in the dialects of LMI, OpenAI and TGI\","
                    "\"version\":";
  json::append_string(out, version);
  out += "},\"paths\":{";
  auto first = true;
  for (const auto& entry : route_table()) {
    if (!std::exchange(first, false))
      out += ',';
    append_path(out, entry);
  }
  out +=
      "},\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
      "\"header\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"x-api-key\"}},\"schemas\":";
  out += openapi_schemas();
  out += "}}";
  return out;
}

} // namespace troupe::http
