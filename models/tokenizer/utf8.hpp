#pragma once

#include <string>
#include <string_view>

namespace troupe::utf8 {

inline constexpr std::string_view replacement = "\xef\xbf\xbd"; ///< U+FFFD

/// What the beginning of some bytes is.
enum class start { whole, incomplete, broken };

struct first {
  start kind = start::whole;
  /// whole: bytes of the character; broken: bytes that one U+FFFD stands for; incomplete: all.
  size_t size = 0;
};

/// Looks at the first character of `bytes`, which must not be empty. The longest part of a broken
/// character is replaced as one, as the Unicode standard recommends and Rust and Python do.
first look(std::string_view bytes);

/// Appends `bytes`, U+FFFD in place of what is not UTF-8, up to the first character that may still
/// be completed.
/// @returns How many bytes at the end are left out: the incomplete character.
size_t append_complete(std::string& out, std::string_view bytes);

/// As above, with U+FFFD for the incomplete character too.
void append_valid(std::string& out, std::string_view bytes);

} // namespace troupe::utf8
