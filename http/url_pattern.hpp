#pragma once

#include <regex>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

namespace troupe::http {

/// A regular expression that a whole URL must match (model_url_pattern). Any thread.
class url_pattern {
public:
  /// Errors: ec::bad_option when `text` is no regular expression (ECMAScript's).
  static caf::expected<url_pattern> compile(const std::string& text);

  /// URLs longer than what any of ours is match nothing: the matcher recurses.
  bool matches(std::string_view url) const;

private:
  explicit url_pattern(std::regex pattern) : pattern_(std::move(pattern)) {}

  std::regex pattern_;
};

} // namespace troupe::http
