#include <memory>

#include <simdjson.h>

#include "troupe/config/error.hpp"
#include "troupe/http/json/value.hpp"

namespace troupe::http::json {

double value::number() const {
  if (auto* x = as_integer())
    return static_cast<double>(*x);
  if (auto* x = as_unsigned())
    return static_cast<double>(*x);
  if (auto* x = as_real())
    return *x;
  return 0;
}

const value* value::find(std::string_view name) const {
  if (auto* members = as_object())
    for (auto i = members->rbegin(); i != members->rend(); ++i)
      if (i->first == name)
        return &i->second;
  return nullptr;
}

std::string_view value::kind() const {
  static constexpr std::string_view names[] = {"null",   "boolean", "number", "number",
                                               "number", "string",  "array",  "object"};
  return names[data_.index()];
}

namespace {

namespace sj = simdjson::dom;

value convert(const sj::element& x) {
  switch (x.type()) {
  case sj::element_type::NULL_VALUE:
    return {};
  case sj::element_type::BOOL:
    return value{bool{x.get_bool().value_unsafe()}};
  case sj::element_type::INT64:
    return value{int64_t{x.get_int64().value_unsafe()}};
  case sj::element_type::UINT64:
    return value{uint64_t{x.get_uint64().value_unsafe()}};
  case sj::element_type::DOUBLE:
    return value{double{x.get_double().value_unsafe()}};
  case sj::element_type::STRING:
    return value{std::string{x.get_string().value_unsafe()}};
  case sj::element_type::ARRAY: {
    auto from = x.get_array().value_unsafe();
    array to;
    to.reserve(from.size());
    for (auto element : from)
      to.push_back(convert(element));
    return value{std::move(to)};
  }
  case sj::element_type::OBJECT: {
    auto from = x.get_object().value_unsafe();
    object to;
    to.reserve(from.size());
    for (auto member : from)
      to.emplace_back(std::string{member.key}, convert(member.value));
    return value{std::move(to)};
  }
  }
  return {};
}

std::string reason(simdjson::error_code code) {
  switch (code) {
  case simdjson::EMPTY:
    return "the body is empty where a JSON object is expected";
  case simdjson::UTF8_ERROR:
    return "the body is not valid UTF-8";
  case simdjson::DEPTH_ERROR:
    return "the JSON is nested deeper than " + std::to_string(max_depth) + " levels";
  case simdjson::NUMBER_ERROR:
    return "the JSON holds a number that is malformed or out of range";
  case simdjson::STRING_ERROR:
  case simdjson::UNCLOSED_STRING:
  case simdjson::UNESCAPED_CHARS:
    return "the JSON holds a malformed string";
  default:
    return std::string{"malformed JSON: "} + simdjson::error_message(code);
  }
}

} // namespace

caf::expected<value> parse(std::string_view text) {
  // A parser's buffers are several times the text, so a thread keeps one for everyday sizes only.
  constexpr size_t everyday = 1 << 20;
  thread_local std::unique_ptr<sj::parser> kept;
  std::unique_ptr<sj::parser> fresh;
  auto& parser = text.size() <= everyday ? kept : fresh;
  if (!parser) {
    parser = std::make_unique<sj::parser>();
    if (parser->allocate(std::max<size_t>(text.size(), 4096), max_depth) != simdjson::SUCCESS)
      return caf::make_error(ec::out_of_memory, std::string{"no memory to parse the body"});
  }
  auto parsed = parser->parse(text.data(), text.size(), /*realloc_if_needed=*/true);
  if (parsed.error() != simdjson::SUCCESS)
    return caf::make_error(ec::invalid_request, reason(parsed.error()));
  return convert(parsed.value_unsafe());
}

} // namespace troupe::http::json
