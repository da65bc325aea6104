#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <caf/expected.hpp>

/// JSON as the dialects see it: a small tree made from untrusted bytes, and hand-written output.
/// The parser behind it stays in parse.cpp.
namespace troupe::http::json {

class value;
using array = std::vector<value>;
/// Members in the order of the text. A name given twice keeps both; `find` takes the last, as
/// Python does.
using object = std::vector<std::pair<std::string, value>>;

class value {
public:
  value() = default;
  value(bool x) : data_(x) {}
  value(int64_t x) : data_(x) {}
  value(uint64_t x) : data_(x) {}
  value(double x) : data_(x) {}
  value(std::string x) : data_(std::move(x)) {}
  value(array x) : data_(std::move(x)) {}
  value(object x) : data_(std::move(x)) {}

  bool is_null() const { return data_.index() == 0; }
  const bool* as_bool() const { return std::get_if<bool>(&data_); }
  /// Whole numbers up to 2^63 - 1.
  const int64_t* as_integer() const { return std::get_if<int64_t>(&data_); }
  /// Whole numbers above that.
  const uint64_t* as_unsigned() const { return std::get_if<uint64_t>(&data_); }
  const double* as_real() const { return std::get_if<double>(&data_); }
  const std::string* as_string() const { return std::get_if<std::string>(&data_); }
  const array* as_array() const { return std::get_if<array>(&data_); }
  const object* as_object() const { return std::get_if<object>(&data_); }
  object* as_object() { return std::get_if<object>(&data_); }

  bool is_number() const { return as_integer() || as_unsigned() || as_real(); }
  /// Any number as a double; 0 for everything else.
  double number() const;

  /// The member of that name; null when this is no object or has none.
  const value* find(std::string_view name) const;

  /// "null", "boolean", "number", "string", "array" or "object": for messages.
  std::string_view kind() const;

private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, array, object> data_;
};

/// Deepest nesting that `parse` accepts.
inline constexpr size_t max_depth = 128;

/// Reads one JSON text. Errors: ec::invalid_request with where and why (broken syntax, invalid
/// UTF-8, too deep, trailing bytes). Thread-safe; keeps a parser per thread for small texts.
caf::expected<value> parse(std::string_view text);

} // namespace troupe::http::json
