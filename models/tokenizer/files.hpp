#pragma once

#include <filesystem>
#include <string>

#include "troupe/config/error.hpp"

namespace troupe::tokenizing {

/// The whole content of one of a model folder's text files. Errors: ec::bad_model with the path and
/// what the system says; files of more than `max_bytes` are refused.
caf::expected<std::string> read_text(const std::filesystem::path& path,
                                     size_t max_bytes = size_t{1} << 30);

/// As above; an absent file reads as empty text.
caf::expected<std::string> read_text_if_there(const std::filesystem::path& path,
                                              size_t max_bytes = size_t{1} << 30);

} // namespace troupe::tokenizing
