#include "troupe/http/dialects/fields.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "troupe/http/json/write.hpp"
#include "troupe/http/message.hpp"

namespace troupe::http {

namespace {

std::string_view trimmed(std::string_view text) {
  auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

template <class T>
std::optional<T> from_text(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+'))
    text.remove_prefix(1);
  T out{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty())
    return std::nullopt;
  return out;
}

/// A double that is whole and fits, as 3.0 or "3.0" for an integer.
std::optional<int64_t> whole(double x) {
  if (std::nearbyint(x) != x || std::abs(x) > 9.0e15)
    return std::nullopt;
  return static_cast<int64_t>(x);
}

std::optional<int64_t> to_integer(const json::value& x) {
  if (auto* i = x.as_integer())
    return *i;
  if (auto* r = x.as_real())
    return whole(*r);
  if (auto* s = x.as_string()) {
    if (auto i = from_text<int64_t>(*s))
      return i;
    if (auto r = from_text<double>(*s))
      return whole(*r);
  }
  return std::nullopt;
}

std::string show(double x) {
  if (auto i = whole(x))
    return std::to_string(*i);
  std::string out;
  json::append_real(out, x);
  return out;
}

template <class T>
std::optional<std::string> outside(T x, const range<T>& allowed) {
  bool low = allowed.low && (allowed.low_excluded ? x <= *allowed.low : x < *allowed.low);
  bool high = allowed.high && x > *allowed.high;
  if (!low && !high)
    return std::nullopt;
  auto got = ", got " + show(static_cast<double>(x));
  auto lowest = allowed.low ? show(static_cast<double>(*allowed.low)) : "";
  auto highest = allowed.high ? show(static_cast<double>(*allowed.high)) : "";
  if (allowed.low && allowed.high)
    return allowed.low_excluded
               ? " must be greater than " + lowest + " and at most " + highest + got
               : " must be between " + lowest + " and " + highest + got;
  if (allowed.low)
    return (allowed.low_excluded ? " must be greater than " : " must be at least ") + lowest + got;
  return " must be at most " + highest + got;
}

} // namespace

std::optional<double> to_number(const json::value& x) {
  std::optional<double> out;
  if (x.is_number())
    out = x.number();
  else if (auto* s = x.as_string())
    out = from_text<double>(*s);
  return out && std::isfinite(*out) ? out : std::nullopt;
}

const json::value* field_reader::raw(std::initializer_list<std::string_view> names) {
  known_.insert(known_.end(), names.begin(), names.end());
  if (problem_)
    return nullptr;
  for (auto name : names)
    if (auto* found = from_.find(name); found && !found->is_null()) {
      found_ = name;
      return found;
    }
  return nullptr;
}

void field_reader::fail(std::string_view parameter, std::string message) {
  if (!problem_)
    problem_ = problem{std::string{parameter}, std::move(message)};
}

std::optional<int64_t> field_reader::integer(std::initializer_list<std::string_view> names,
                                             range<int64_t> allowed) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  std::string name{found_};
  auto out = to_integer(*given);
  if (!out) {
    fail(name, name + " must be an integer, not " + std::string{given->kind()});
    return std::nullopt;
  }
  if (auto why = outside(*out, allowed)) {
    fail(name, name + *why);
    return std::nullopt;
  }
  return out;
}

std::optional<uint64_t>
field_reader::unsigned_integer(std::initializer_list<std::string_view> names) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  if (auto* u = given->as_unsigned())
    return *u;
  if (auto* s = given->as_string())
    if (auto u = from_text<uint64_t>(*s))
      return u;
  auto i = to_integer(*given);
  if (i && *i >= 0)
    return static_cast<uint64_t>(*i);
  std::string name{found_};
  fail(name, name + " must be an integer between 0 and 18446744073709551615");
  return std::nullopt;
}

std::optional<double> field_reader::number(std::initializer_list<std::string_view> names,
                                           range<double> allowed) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  std::string name{found_};
  auto out = to_number(*given);
  if (!out) {
    fail(name, name + " must be a number, not " + std::string{given->kind()});
    return std::nullopt;
  }
  if (auto why = outside(*out, allowed)) {
    fail(name, name + *why);
    return std::nullopt;
  }
  return out;
}

std::optional<bool> field_reader::boolean(std::initializer_list<std::string_view> names) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  if (auto* b = given->as_bool())
    return *b;
  if (auto* s = given->as_string()) {
    auto folded = lower(trimmed(*s));
    if (folded == "true" || folded == "1")
      return true;
    if (folded == "false" || folded == "0")
      return false;
  }
  if (auto* i = given->as_integer(); i && (*i == 0 || *i == 1))
    return *i == 1;
  std::string name{found_};
  fail(name, name + " must be true or false");
  return std::nullopt;
}

std::optional<std::string> field_reader::string(std::initializer_list<std::string_view> names) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  if (auto* s = given->as_string())
    return *s;
  std::string name{found_};
  fail(name, name + " must be a string, not " + std::string{given->kind()});
  return std::nullopt;
}

std::optional<std::vector<std::string>>
field_reader::strings(std::initializer_list<std::string_view> names) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  if (auto* s = given->as_string())
    return std::vector<std::string>{*s};
  std::string name{found_};
  auto* elements = given->as_array();
  std::vector<std::string> out;
  for (const auto& element : elements ? *elements : json::array{}) {
    if (auto* s = element.as_string())
      out.push_back(*s);
    else
      elements = nullptr;
    if (!elements)
      break;
  }
  if (!elements) {
    fail(name, name + " must be a string or an array of strings");
    return std::nullopt;
  }
  return out;
}

std::optional<std::vector<int32_t>>
field_reader::token_ids(std::initializer_list<std::string_view> names) {
  auto* given = raw(names);
  if (!given)
    return std::nullopt;
  std::string name{found_};
  if (auto* elements = given->as_array()) {
    if (auto ids = to_token_ids(*elements))
      return ids;
  } else if (auto id = to_integer(*given); id && *id >= 0 && *id <= INT32_MAX) {
    return std::vector<int32_t>{static_cast<int32_t>(*id)};
  }
  fail(name, name + " must be an array of token ids (integers from 0)");
  return std::nullopt;
}

std::vector<std::string> field_reader::unknown() const {
  std::vector<std::string> out;
  if (auto* members = from_.as_object())
    for (const auto& member : *members)
      if (std::find(known_.begin(), known_.end(), member.first) == known_.end())
        out.push_back(member.first);
  return out;
}

std::optional<std::vector<int32_t>> to_token_ids(const json::array& from) {
  std::vector<int32_t> out;
  out.reserve(from.size());
  for (const auto& element : from) {
    auto* id = element.as_integer();
    if (!id || *id < 0 || *id > INT32_MAX)
      return std::nullopt;
    out.push_back(static_cast<int32_t>(*id));
  }
  return out;
}

} // namespace troupe::http
