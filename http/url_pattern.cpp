#include "troupe/http/url_pattern.hpp"

#include "troupe/config/error.hpp"

namespace troupe::http {

namespace {

constexpr size_t longest_url = 2048;

} // namespace

caf::expected<url_pattern> url_pattern::compile(const std::string& text) {
  try {
    return url_pattern{std::regex{text, std::regex::ECMAScript | std::regex::optimize}};
  } catch (const std::regex_error& x) {
    return caf::make_error(ec::bad_option,
                           "model_url_pattern: \"" + text + "\" is no regular expression (" +
                               x.what() + "); one for the models of a folder is file:///models/.*");
  }
}

bool url_pattern::matches(std::string_view url) const {
  try {
    return url.size() <= longest_url && std::regex_match(url.begin(), url.end(), pattern_);
  } catch (const std::regex_error&) {
    return false; // Too costly to tell.
  }
}

} // namespace troupe::http
