#include <algorithm>

#include "troupe/http/json/write.hpp"
#include "troupe/http/message.hpp"
#include "troupe/http/route_table.hpp"

namespace troupe::http {

namespace {

bool is_media_type(std::string_view answer) {
  return answer.find('/') != std::string_view::npos;
}

void append_reference(std::string& out, std::string_view schema) {
  out.append("{\"$ref\":\"#/components/schemas/").append(schema).append("\"}");
}

/// {"content": {TYPE: {"schema": ...}}} without the braces.
void append_content(std::string& out, std::string_view type, std::string_view schema) {
  out += "\"content\":{";
  json::append_string(out, type);
  out += ":{\"schema\":";
  if (schema.empty())
    out += "{\"type\":\"string\"}";
  else
    append_reference(out, schema);
  out += "}}";
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
  for (auto query = entry.query; !query.empty();) {
    auto name = query.substr(0, query.find(' '));
    query.remove_prefix(std::min(query.size(), name.size() + 1));
    append_parameter(out, name, false);
  }
  out += ']';
}

/// Errors look different from family to family; what they have in common is that they are objects.
void append_answers(std::string& out, const route_entry& entry) {
  out += "\"responses\":{\"200\":{\"description\":\"The answer\"";
  if (is_media_type(entry.answer)) {
    out += ',';
    append_content(out, entry.answer, {});
  } else if (!entry.answer.empty()) {
    out += ',';
    append_content(out, "application/json", entry.answer);
  }
  out += "},\"default\":{\"description\":\"What went wrong and what to do about it\",";
  append_content(out, "application/json", "Error");
  out += "}}";
}

void append_operation(std::string& out, const route_entry& entry, std::string_view method) {
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
  append_answers(out, entry);
  out += '}';
}

void append_path(std::string& out, const route_entry& entry) {
  auto path = entry.path;
  if (path.ends_with('*'))
    path.remove_suffix(1);
  json::append_string(out, path);
  out += ":{";
  auto methods = entry.methods;
  for (auto first = true; !methods.empty(); first = false) {
    auto method = methods.substr(0, methods.find(' '));
    methods.remove_prefix(std::min(methods.size(), method.size() + 1));
    if (!first)
      out += ',';
    append_operation(out, entry, method);
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
