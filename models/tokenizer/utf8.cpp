#include "troupe/models/tokenizer/utf8.hpp"

#include <algorithm>

namespace troupe::utf8 {

namespace {

/// What a first byte announces: total size (0: no first byte) and the range of the second byte.
/// Source: The Unicode Standard 15, table 3-7.
struct lead {
  size_t size;
  unsigned char low;
  unsigned char high;
};

lead classify(unsigned char c) {
  if (c < 0x80)
    return {1, 0, 0};
  if (c < 0xc2 || c > 0xf4)
    return {0, 0, 0};
  if (c < 0xe0)
    return {2, 0x80, 0xbf};
  if (c < 0xf0)
    return {3, static_cast<unsigned char>(c == 0xe0 ? 0xa0 : 0x80),
            static_cast<unsigned char>(c == 0xed ? 0x9f : 0xbf)};
  return {4, static_cast<unsigned char>(c == 0xf0 ? 0x90 : 0x80),
          static_cast<unsigned char>(c == 0xf4 ? 0x8f : 0xbf)};
}

} // namespace

first look(std::string_view bytes) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  auto l = classify(byte(0));
  if (l.size == 0)
    return {start::broken, 1};
  for (size_t i = 1; i < l.size; ++i) {
    if (i == bytes.size())
      return {start::incomplete, i};
    auto low = i == 1 ? l.low : 0x80;
    auto high = i == 1 ? l.high : 0xbf;
    if (byte(i) < low || byte(i) > high)
      return {start::broken, i};
  }
  return {start::whole, l.size};
}

size_t append_complete(std::string& out, std::string_view bytes) {
  while (!bytes.empty()) {
    auto ascii =
        static_cast<size_t>(std::find_if(bytes.begin(), bytes.end(),
                                         [](char c) { return static_cast<signed char>(c) < 0; }) -
                            bytes.begin());
    out.append(bytes.substr(0, ascii));
    bytes.remove_prefix(ascii);
    if (bytes.empty())
      break;
    auto f = look(bytes);
    if (f.kind == start::incomplete)
      break;
    out.append(f.kind == start::whole ? bytes.substr(0, f.size) : replacement);
    bytes.remove_prefix(f.size);
  }
  return bytes.size();
}

void append_valid(std::string& out, std::string_view bytes) {
  if (append_complete(out, bytes) != 0)
    out.append(replacement);
}

} // namespace troupe::utf8
