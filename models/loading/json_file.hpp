#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "troupe/config/error.hpp"

namespace troupe::models {

/// A JSON object out of a model folder, read field by field with limits, because every value in it
/// is untrusted. The first field that is wrong is remembered and the reads go on with harmless
/// values, so that a reader lists its fields and asks `error()` once at the end.
class json_file {
public:
  /// Errors: ec::bad_model: missing, larger than 16 MB, malformed, or no JSON object.
  static caf::expected<json_file> open(const std::string& path);

  /// The object in field `key`, sharing the error; empty when absent, null or (an error) no object.
  std::optional<json_file> object(std::string_view key) const;
  /// True when the field is there and not null.
  bool has(std::string_view key) const;

  /// A whole number in [low, high]. Without a fallback the field is required; null counts as
  /// absent.
  int64_t integer(std::string_view key, int64_t low, int64_t high,
                  std::optional<int64_t> fallback = {}) const;
  /// A finite number in [low, high].
  double number(std::string_view key, double low, double high,
                std::optional<double> fallback = {}) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::optional<std::string> fallback = {}) const;
  /// A whole number or a list of them, each in [low, high]; empty when absent.
  std::vector<int32_t> integers(std::string_view key, int64_t low, int64_t high) const;
  /// A list of strings; empty when absent.
  std::vector<std::string> texts(std::string_view key) const;

  /// The object in field `key` as pairs of strings. Errors: ec::bad_model, also when it is absent.
  caf::expected<std::vector<std::pair<std::string, std::string>>>
  string_map(std::string_view key) const;

  /// Remembers a problem that the reader found itself: `what` follows "'PATH': ".
  void refuse(const std::string& what, ec code = ec::bad_model) const;
  /// The first problem, or none.
  caf::error error() const;
  const std::string& path() const;

private:
  struct document;
  struct node;
  explicit json_file(std::shared_ptr<document> d, std::shared_ptr<node> n, std::string prefix)
      : document_(std::move(d)), node_(std::move(n)), prefix_(std::move(prefix)) {}
  void refuse_field(std::string_view key, const std::string& what) const;

  std::shared_ptr<document> document_;
  std::shared_ptr<node> node_;
  std::string prefix_; ///< "rope_scaling." inside of an object.
};

} // namespace troupe::models
