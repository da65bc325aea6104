#pragma once

#include <string>

#include <boost/json.hpp>

namespace troupe::tokenizing {

/// A token is written as its text or as an object with `content`; "" for anything else.
inline std::string token_text(const boost::json::value& v) {
  if (auto text = v.if_string())
    return {text->data(), text->size()};
  if (auto object = v.if_object())
    if (auto content = object->if_contains("content"); content && content->is_string())
      return {content->get_string().data(), content->get_string().size()};
  return {};
}

} // namespace troupe::tokenizing
