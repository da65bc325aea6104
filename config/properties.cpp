#include "troupe/config/properties.hpp"

#include <fstream>
#include <iterator>
#include <optional>

namespace troupe::config {

namespace {

constexpr size_t largest_file = 1 << 20;

bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\f';
}

void append_utf8(std::string& out, uint32_t c) {
  auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

/// Takes natural lines off a text and joins them to logical ones.
class line_reader {
public:
  explicit line_reader(std::string_view text) : rest_{text} {}

  /// The next logical line that is neither blank nor a comment; `line()` is where it begins.
  std::optional<std::string> next() {
    while (!done_) {
      auto natural = take();
      line_ = count_;
      if (natural.empty() || natural.front() == '#' || natural.front() == '!')
        continue;
      std::string logical{natural};
      while (continues(logical)) {
        logical.pop_back();
        if (done_)
          break;
        logical += take();
      }
      return logical;
    }
    return std::nullopt;
  }

  size_t line() const { return line_; }

private:
  /// A natural line without its end and its leading white space.
  std::string_view take() {
    auto end = rest_.find_first_of("\r\n");
    auto line = rest_.substr(0, end);
    if (end == std::string_view::npos) {
      done_ = true;
    } else {
      auto both = rest_.substr(end, 2) == "\r\n";
      rest_.remove_prefix(end + (both ? 2 : 1));
    }
    ++count_;
    while (!line.empty() && blank(line.front()))
      line.remove_prefix(1);
    return line;
  }

  /// An even number of backslashes at the end stands for half as many of themselves.
  static bool continues(const std::string& line) {
    size_t n = 0;
    while (n < line.size() && line[line.size() - 1 - n] == '\\')
      ++n;
    return n % 2 == 1;
  }

  std::string_view rest_;
  size_t count_ = 0;
  size_t line_ = 0;
  bool done_ = false;
};

/// Four hexadecimal digits at `i`.
std::optional<uint32_t> hex4(std::string_view text, size_t i) {
  if (i + 4 > text.size())
    return std::nullopt;
  uint32_t out = 0;
  for (size_t k = i; k < i + 4; ++k) {
    char c = text[k];
    uint32_t digit = 0;
    if (c >= '0' && c <= '9')
      digit = static_cast<uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<uint32_t>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      digit = static_cast<uint32_t>(c - 'A' + 10);
    else
      return std::nullopt;
    out = out * 16 + digit;
  }
  return out;
}

/// Resolves the escapes of a key or a value; empty for a broken \u.
std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    char c = text[++i];
    if (c != 'u') {
      constexpr std::string_view names = "tnrf", meanings = "\t\n\r\f";
      auto at = names.find(c);
      out += at == std::string_view::npos ? c : meanings[at];
      continue;
    }
    auto unit = hex4(text, i + 1);
    if (!unit || (*unit >= 0xDC00 && *unit < 0xE000))
      return std::nullopt;
    i += 4;
    if (*unit >= 0xD800 && *unit < 0xDC00) {
      auto low = text.substr(i + 1, 2) == "\\u" ? hex4(text, i + 3) : std::nullopt;
      if (!low || *low < 0xDC00 || *low >= 0xE000)
        return std::nullopt;
      i += 6;
      unit = 0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00);
    }
    append_utf8(out, *unit);
  }
  return out;
}

} // namespace

caf::expected<std::vector<property>> parse_properties(std::string_view text,
                                                      const std::string& name) {
  if (text.starts_with("\xEF\xBB\xBF"))
    text.remove_prefix(3);
  std::vector<property> out;
  std::string errors;
  line_reader lines{text};
  while (auto line = lines.next()) {
    std::string_view rest = *line;
    size_t end = 0;
    while (end < rest.size() && rest[end] != '=' && rest[end] != ':' && !blank(rest[end]))
      end += rest[end] == '\\' ? 2 : 1;
    end = std::min(end, rest.size());
    auto key = unescape(rest.substr(0, end));
    rest.remove_prefix(end);
    auto skip_blanks = [&] {
      while (!rest.empty() && blank(rest.front()))
        rest.remove_prefix(1);
    };
    skip_blanks();
    if (!rest.empty() && (rest.front() == '=' || rest.front() == ':')) {
      rest.remove_prefix(1);
      skip_blanks();
    }
    auto value = unescape(rest);
    if (!key || !value) {
      errors += (errors.empty() ? "" : "\n") + name + ":" + std::to_string(lines.line()) +
                ": \\u must be followed by four hexadecimal digits, and surrogates come in pairs";
      continue;
    }
    out.push_back({std::move(*key), std::move(*value), lines.line()});
  }
  if (!errors.empty())
    return caf::make_error(ec::bad_option, std::move(errors));
  return out;
}

caf::expected<std::vector<property>> read_properties(const std::filesystem::path& file) {
  std::error_code code;
  auto size = std::filesystem::file_size(file, code);
  std::ifstream in{file, std::ios::binary};
  if (code || !in)
    return caf::make_error(ec::bad_option, "cannot read " + file.string() + ": " +
                                               (code ? code.message() : "no permission"));
  if (size > largest_file)
    return caf::make_error(ec::bad_option,
                           file.string() + " is larger than 1 MiB: this is no properties file");
  std::string text(std::istreambuf_iterator<char>{in}, {});
  return parse_properties(text, file.string());
}

} // namespace troupe::config
