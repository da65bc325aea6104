#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "troupe/http/json/value.hpp"

/// JSON output by appending to a string that its owner reuses: no tree, no allocation per token.
namespace troupe::http::json {

/// Appends `text` quoted and escaped. Bytes that are not valid UTF-8 become U+FFFD, so that the
/// output always is; non-ASCII stays as it is.
void append_string(std::string& out, std::string_view text);

void append_integer(std::string& out, int64_t x);
void append_unsigned(std::string& out, uint64_t x);

/// The shortest text that reads back as the same number; always with a point or an exponent.
/// JSON has no infinities: they become -9999.0 and 9999.0 as OpenAI does, NaN becomes null.
void append_real(std::string& out, float x);
void append_real(std::string& out, double x);

/// The whole tree, compact.
void append_value(std::string& out, const value& x);

/// `text` with every byte that is not valid UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

} // namespace troupe::http::json
