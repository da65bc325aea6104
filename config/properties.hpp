#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/error.hpp"

namespace troupe::config {

/// One `key = value` of a properties file.
struct property {
  std::string key;
  std::string text;
  size_t line = 0; ///< Where the key stands, counted from 1.
};

/// Reads the Java properties format: `#` and `!` comments, `=`, `:` or white space between key and
/// value, a backslash at the end of a line goes on with the next, and the escapes \t \n \r \f and
/// \uXXXX. Unlike Java it takes the text as UTF-8. Entries come in the order of the file; of two
/// with one key the later counts, which is for the caller to see to.
/// Errors: ec::bad_option naming `name` and the line of each broken \u escape.
caf::expected<std::vector<property>> parse_properties(std::string_view text,
                                                      const std::string& name);

/// Reads a file of at most 1 MiB. Errors: ec::bad_option.
caf::expected<std::vector<property>> read_properties(const std::filesystem::path& file);

} // namespace troupe::config
