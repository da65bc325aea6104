#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include <simdjson.h>

#include "troupe/examples/load_test/dialects/framing.hpp"

/// Looks into JSON without building it: what a load generator needs of an event is one or two of
/// its members.
namespace troupe::load_test {

namespace od = simdjson::ondemand;

/// One per thread, because it keeps its buffers from document to document.
inline od::parser& scanner() {
  thread_local od::parser p;
  return p;
}

/// Nothing stands behind what was read.
inline bool at_end(od::document& document) {
  return document.current_location().error() == simdjson::OUT_OF_BOUNDS;
}

/// Calls `f(name, value)` for each member of the object that `data` is. False when it is no JSON
/// object, or `f` met a value that is not of the kind it asked for.
template <class F>
bool scan_object(json_view data, F&& f) {
  try {
    od::document document =
        scanner().iterate(data.text.data(), data.text.size(), data.text.size() + json_padding);
    for (auto field : document.get_object())
      f(field.key().value(), field.value().value());
    return at_end(document);
  } catch (const simdjson::simdjson_error&) {
    return false;
  }
}

inline bool is_null(od::value value) {
  return value.is_null();
}

/// A string with something in it; nothing is unescaped.
inline bool has_text(od::value value) {
  auto raw = value.raw_json_token();
  return raw.size() > 2 && raw[0] == '"' && raw[1] != '"';
}

inline uint32_t count_of(od::value value) {
  uint64_t n = value.get_uint64();
  return static_cast<uint32_t>(std::min<uint64_t>(n, UINT32_MAX));
}

/// A member that may be a string, an object with "message", or anything else.
inline std::string words_of(od::value value) {
  if (value.type() == od::json_type::string)
    return std::string{std::string_view{value.get_string()}};
  if (value.type() == od::json_type::object) {
    for (auto field : value.get_object())
      if (field.key().value() == "message")
        return words_of(field.value().value());
    return "an error without a message";
  }
  if (value.type() == od::json_type::null)
    return {};
  return std::string{std::string_view{simdjson::to_json_string(value)}};
}

} // namespace troupe::load_test
