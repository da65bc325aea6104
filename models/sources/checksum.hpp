#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "troupe/config/error.hpp"

namespace troupe::models {

/// Whether `file` is what the hub names `etag`: its SHA-256 (64 hexadecimal digits), or Git's name
/// of a blob (40 digits: the SHA-1 of a short header and the content). Other names cannot be
/// checked and are taken. Errors: ec::bad_model when the file cannot be read.
caf::expected<bool> has_checksum(const std::filesystem::path& file, std::string_view etag);

/// The SHA-256 of a text, in hexadecimal digits.
std::string sha256_of(std::string_view text);

} // namespace troupe::models
