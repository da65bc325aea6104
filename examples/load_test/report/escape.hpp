#pragma once

#include <string>
#include <string_view>

/// What servers, systems and command lines say, made harmless for where it is shown. Input may be
/// any bytes; output is valid UTF-8.
namespace troupe::load_test::report {

/// For element content and quoted attributes of HTML. Control characters become U+FFFD.
std::string html_text(std::string_view text);

/// One field of CSV (RFC 4180), quoted where it must be. A text that a spreadsheet would run as a
/// formula (it begins with = + - @, a tab or a carriage return) gets an apostrophe in front (OWASP,
/// "CSV Injection"); control characters become spaces. Not for numbers, which are written as they
/// are.
std::string csv_text(std::string_view text);

/// For a terminal: one line, no control character (so no escape sequence) and no change of writing
/// direction; each becomes a visible \x1b or \u202e. Longer than `most` characters is cut, with
/// "..." at its end.
std::string terminal_text(std::string_view text, size_t most = 1000);

/// Columns that a line takes on a terminal, SGR sequences left out, one column to a character.
size_t columns(std::string_view line);

/// The first `most` columns of a line with its SGR sequences kept; ends with a reset where it was
/// cut inside of a coloured stretch.
std::string cut_to_columns(std::string_view line, size_t most);

} // namespace troupe::load_test::report
