#include "troupe/http/json/write.hpp"

#include <charconv>
#include <cmath>

namespace troupe::http::json {

namespace {

/// Length of the valid UTF-8 sequence at `p`, or 0. Refuses overlong forms, surrogates and what
/// lies above U+10FFFF (Unicode, table 3-7).
size_t sequence_length(const unsigned char* p, const unsigned char* end) {
  auto continues = [&](size_t i, unsigned char low = 0x80, unsigned char high = 0xBF) {
    return p + i < end && p[i] >= low && p[i] <= high;
  };
  auto lead = *p;
  if (lead < 0x80)
    return 1;
  if (lead >= 0xC2 && lead <= 0xDF)
    return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    auto low = static_cast<unsigned char>(lead == 0xE0 ? 0xA0 : 0x80);
    auto high = static_cast<unsigned char>(lead == 0xED ? 0x9F : 0xBF);
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    auto low = static_cast<unsigned char>(lead == 0xF0 ? 0x90 : 0x80);
    auto high = static_cast<unsigned char>(lead == 0xF4 ? 0x8F : 0xBF);
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

constexpr std::string_view replacement = "\xEF\xBF\xBD";

void append_escaped(std::string& out, unsigned char c) {
  switch (c) {
  case '"':
    out += "\\\"";
    break;
  case '\\':
    out += "\\\\";
    break;
  case '\n':
    out += "\\n";
    break;
  case '\r':
    out += "\\r";
    break;
  case '\t':
    out += "\\t";
    break;
  default: {
    constexpr char hex[] = "0123456789abcdef";
    const char text[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    out.append(text, sizeof text);
  }
  }
}

template <class Real>
void append_any_real(std::string& out, Real x) {
  if (std::isnan(x)) {
    out += "null";
    return;
  }
  if (std::isinf(x)) {
    out += x < 0 ? "-9999.0" : "9999.0";
    return;
  }
  char text[40];
  auto end = std::to_chars(text, text + sizeof text, x).ptr;
  std::string_view written{text, static_cast<size_t>(end - text)};
  out += written;
  if (written.find_first_of(".e") == std::string_view::npos)
    out += ".0";
}

template <class Integer>
void append_any_integer(std::string& out, Integer x) {
  char text[24];
  auto end = std::to_chars(text, text + sizeof text, x).ptr;
  out.append(text, static_cast<size_t>(end - text));
}

} // namespace

void append_string(std::string& out, std::string_view text) {
  out += '"';
  auto* p = reinterpret_cast<const unsigned char*>(text.data());
  auto* end = p + text.size();
  auto* plain = p; // Start of the stretch that can be copied as it is.
  auto copy_to = [&](const unsigned char* to) {
    out.append(reinterpret_cast<const char*>(plain), static_cast<size_t>(to - plain));
  };
  while (p != end) {
    auto c = *p;
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++p;
    } else if (c >= 0x80) {
      if (auto length = sequence_length(p, end)) {
        p += length;
      } else {
        copy_to(p);
        out += replacement;
        plain = ++p;
      }
    } else {
      copy_to(p);
      append_escaped(out, c);
      plain = ++p;
    }
  }
  copy_to(end);
  out += '"';
}

void append_integer(std::string& out, int64_t x) {
  append_any_integer(out, x);
}
void append_unsigned(std::string& out, uint64_t x) {
  append_any_integer(out, x);
}
void append_real(std::string& out, float x) {
  append_any_real(out, x);
}
void append_real(std::string& out, double x) {
  append_any_real(out, x);
}

void append_value(std::string& out, const value& x) {
  if (x.is_null()) {
    out += "null";
  } else if (auto* b = x.as_bool()) {
    out += *b ? "true" : "false";
  } else if (auto* i = x.as_integer()) {
    append_integer(out, *i);
  } else if (auto* u = x.as_unsigned()) {
    append_unsigned(out, *u);
  } else if (auto* r = x.as_real()) {
    append_real(out, *r);
  } else if (auto* s = x.as_string()) {
    append_string(out, *s);
  } else if (auto* elements = x.as_array()) {
    out += '[';
    for (size_t n = 0; n < elements->size(); ++n) {
      if (n > 0)
        out += ',';
      append_value(out, (*elements)[n]);
    }
    out += ']';
  } else if (auto* members = x.as_object()) {
    out += '{';
    for (size_t n = 0; n < members->size(); ++n) {
      if (n > 0)
        out += ',';
      append_string(out, (*members)[n].first);
      out += ':';
      append_value(out, (*members)[n].second);
    }
    out += '}';
  }
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  auto* p = reinterpret_cast<const unsigned char*>(text.data());
  auto* end = p + text.size();
  while (p != end) {
    if (auto length = sequence_length(p, end)) {
      out.append(reinterpret_cast<const char*>(p), length);
      p += length;
    } else {
      out += replacement;
      ++p;
    }
  }
  return out;
}

} // namespace troupe::http::json
