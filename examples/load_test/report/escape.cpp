#include "troupe/examples/load_test/report/escape.hpp"

#include <cstdint>
#include <cstdio>

#include "troupe/http/json/write.hpp"

namespace troupe::load_test::report {

namespace {

/// The character at `i` of valid UTF-8, and its length in bytes.
std::pair<uint32_t, size_t> character_at(std::string_view s, size_t i) {
  auto byte = [&](size_t k) { return static_cast<uint32_t>(static_cast<unsigned char>(s[i + k])); };
  if (byte(0) < 0x80)
    return {byte(0), 1};
  if (byte(0) < 0xE0)
    return {(byte(0) & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (byte(0) < 0xF0)
    return {(byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
              (byte(3) & 0x3F),
          4};
}

bool is_control(uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

/// Turns the writing direction, breaks the line or is not seen at all.
bool is_deceiving(uint32_t c) {
  return (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || c == 0x061C || c >= 0xE0000;
}

/// Calls `f(code point, bytes)` for every character of `text`, made valid first.
template <class F>
void for_each_character(std::string_view text, F&& f) {
  auto valid = http::json::valid_utf8(text);
  for (size_t i = 0; i < valid.size();) {
    auto [c, length] = character_at(valid, i);
    f(c, std::string_view{valid}.substr(i, length));
    i += length;
  }
}

/// Length of the SGR sequence at `i`, 0 when there is none.
size_t sgr_length(std::string_view s, size_t i) {
  if (s.substr(i, 2) != "\x1b[")
    return 0;
  auto end = s.find_first_not_of("0123456789;", i + 2);
  return end != std::string_view::npos && s[end] == 'm' ? end + 1 - i : 0;
}

bool starts_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

} // namespace

std::string html_text(std::string_view text) {
  std::string out;
  for_each_character(text, [&](uint32_t c, std::string_view bytes) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if ((is_control(c) && c != '\n' && c != '\t') || is_deceiving(c))
      out += "\xEF\xBF\xBD";
    else
      out += bytes;
  });
  return out;
}

std::string csv_text(std::string_view text) {
  std::string out;
  bool quoted = false;
  if (!text.empty() && std::string_view{"=+-@\t\r"}.find(text.front()) != std::string_view::npos)
    out += '\'';
  for_each_character(text, [&](uint32_t c, std::string_view bytes) {
    if (is_control(c)) {
      out += ' ';
      return;
    }
    quoted = quoted || c == '"' || c == ',' || c == ';';
    if (c == '"')
      out += '"';
    out += bytes;
  });
  return quoted ? '"' + out + '"' : out;
}

std::string terminal_text(std::string_view text, size_t most) {
  std::string out;
  size_t written = 0;
  bool cut = false;
  for_each_character(text, [&](uint32_t c, std::string_view bytes) {
    char code[16];
    std::string_view piece = bytes;
    size_t width = 1;
    if (is_control(c) || is_deceiving(c)) {
      auto n = std::snprintf(code, sizeof code, c < 0x100 ? "\\x%02x" : "\\u%04x", c);
      width = static_cast<size_t>(n);
      piece = {code, width};
    }
    if (cut || written + width > most) {
      cut = true;
      return;
    }
    out += piece;
    written += width;
  });
  if (!cut)
    return out;
  while (written > 0 && written + 3 > most) {
    while (!starts_character(out.back()))
      out.pop_back();
    out.pop_back();
    --written;
  }
  return out + (most >= 3 ? "..." : "");
}

size_t columns(std::string_view line) {
  size_t n = 0;
  for (size_t i = 0; i < line.size();) {
    if (auto length = sgr_length(line, i)) {
      i += length;
      continue;
    }
    n += starts_character(line[i]) ? 1 : 0;
    ++i;
  }
  return n;
}

std::string cut_to_columns(std::string_view line, size_t most) {
  if (columns(line) <= most)
    return std::string{line};
  std::string out;
  size_t n = 0;
  bool coloured = false;
  for (size_t i = 0; i < line.size();) {
    if (auto length = sgr_length(line, i)) {
      out += line.substr(i, length);
      coloured = line.substr(i, length) != "\x1b[0m";
      i += length;
      continue;
    }
    if (starts_character(line[i]) && ++n > most)
      break;
    out += line[i++];
  }
  return coloured ? out + "\x1b[0m" : out;
}

} // namespace troupe::load_test::report
