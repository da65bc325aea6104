#include "troupe/config/options.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace troupe::config {

namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\f' || c == '\r' || c == '\n';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && blank(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && blank(text.back()))
    text.remove_suffix(1);
  return text;
}

/// One entry of `option::words`.
struct word {
  std::string_view name;
  char mark = 0; ///< '=' another name or number, '~' the same with a warning, 0 a plain word.
  std::string_view meaning;
};

template <class F>
void each_word(const option& o, F&& visit) {
  auto rest = o.words;
  while (!rest.empty()) {
    auto end = std::min(rest.find(' '), rest.size());
    auto item = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    auto mark = item.find_first_of("=~");
    if (mark == std::string_view::npos)
      visit(word{item, 0, item});
    else
      visit(word{item.substr(0, mark), item[mark], item.substr(mark + 1)});
  }
}

std::optional<word> find_word(const option& o, std::string_view text) {
  std::optional<word> found;
  each_word(o, [&](const word& w) {
    if (!found && same(w.name, text))
      found = w;
  });
  return found;
}

template <class T>
std::optional<T> whole(std::string_view text) {
  T result{};
  if (text.size() > 1 && text.front() == '+' && text[1] != '-')
    text.remove_prefix(1);
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (code != std::errc{} || end != text.data() + text.size() || text.empty())
    return std::nullopt;
  return result;
}

std::string plain_number(double x) {
  if (x == std::floor(x) && std::abs(x) < 9e15)
    return std::to_string(static_cast<int64_t>(x));
  std::array<char, 32> buffer{};
  auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), x).ptr;
  return {buffer.data(), end};
}

bool in_range(const option& o, double x) {
  return x >= o.least && x <= o.most;
}

std::optional<value> parse_integer(const option& o, std::string_view text) {
  if (auto w = find_word(o, text))
    return value{whole<int64_t>(w->meaning).value_or(0)};
  auto n = whole<int64_t>(text);
  if (!n || o.listed || !in_range(o, static_cast<double>(*n)))
    return std::nullopt;
  return value{*n};
}

std::optional<value> parse_bytes(const option& o, std::string_view text) {
  if (auto w = find_word(o, text))
    return value{whole<int64_t>(w->meaning).value_or(0)};
  auto digits = text.substr(0, std::min(text.find_first_not_of("0123456789"), text.size()));
  auto suffix = trim(text.substr(digits.size()));
  auto n = whole<int64_t>(digits);
  if (!n)
    return std::nullopt;
  int shift = 0;
  if (!suffix.empty() && !same(suffix, "b")) {
    constexpr std::string_view units = "kmgt";
    auto unit = units.find(lower(suffix.front()));
    auto rest = suffix.substr(1);
    if (unit == std::string_view::npos || !(rest.empty() || same(rest, "b") || same(rest, "ib")))
      return std::nullopt;
    shift = 10 * (static_cast<int>(unit) + 1);
  }
  auto exact = std::ldexp(static_cast<double>(*n), shift);
  if (exact > 9e18 || !in_range(o, exact))
    return std::nullopt;
  return value{static_cast<int64_t>(*n) << shift};
}

std::optional<double> parse_number(const option& o, std::string_view text) {
  auto x = whole<double>(text);
  if (!x || !std::isfinite(*x) || !in_range(o, *x))
    return std::nullopt;
  return x;
}

/// The list of texts in ["a", 'b']; items without quotes end at a comma.
std::optional<value> parse_list(std::string_view text) {
  if (text.size() < 2 || text.front() != '[' || text.back() != ']')
    return std::nullopt;
  text = trim(text.substr(1, text.size() - 2));
  std::vector<std::string> items;
  while (!text.empty()) {
    std::string item;
    if (auto quote = text.front(); quote == '"' || quote == '\'') {
      size_t i = 1;
      for (; i < text.size() && text[i] != quote; ++i) {
        if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == quote || text[i + 1] == '\\'))
          ++i;
        else if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == 'n') {
          item += '\n';
          ++i;
          continue;
        }
        item += text[i];
      }
      if (i == text.size())
        return std::nullopt;
      text = trim(text.substr(i + 1));
    } else {
      auto end = std::min(text.find(','), text.size());
      item = trim(text.substr(0, end));
      text.remove_prefix(end);
    }
    if (item.empty())
      return std::nullopt;
    items.push_back(std::move(item));
    if (text.empty())
      break;
    if (text.front() != ',')
      return std::nullopt;
    text = trim(text.substr(1));
  }
  return value{std::move(items)};
}

/// Length of the UTF-8 sequence at the start of `text`, 0 when it is not one.
size_t utf8_length(std::string_view text) {
  auto c = static_cast<unsigned char>(text.front());
  if (c < 0x80)
    return 1;
  size_t n = c >= 0xF0 && c < 0xF5 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC2 && c < 0xE0 ? 2 : 0;
  if (n == 0 || text.size() < n)
    return 0;
  for (size_t i = 1; i < n; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80)
      return 0;
  auto d = static_cast<unsigned char>(text[1]);
  bool overlong = (c == 0xE0 && d < 0xA0) || (c == 0xF0 && d < 0x90);
  bool surrogate_or_beyond = (c == 0xED && d > 0x9F) || (c == 0xF4 && d > 0x8F);
  return overlong || surrogate_or_beyond ? 0 : n;
}

bool clean_text(std::string_view text) {
  while (!text.empty()) {
    auto n = utf8_length(text);
    if (n == 0 || text.front() == '\0')
      return false;
    text.remove_prefix(n);
  }
  return true;
}

} // namespace

std::string quotable(std::string_view text) {
  std::string out;
  size_t i = 0;
  while (i < text.size() && out.size() < 80) {
    auto n = utf8_length(text.substr(i));
    if (n == 0 || static_cast<unsigned char>(text[i]) < 0x20 || text[i] == 0x7f) {
      constexpr std::string_view digits = "0123456789abcdef";
      auto c = static_cast<unsigned char>(text[i]);
      out += {'\\', 'x', digits[c >> 4], digits[c & 15]};
      n = 1;
    } else {
      out += text.substr(i, n);
    }
    i += n;
  }
  if (i < text.size())
    out += "...";
  return out;
}

caf::expected<parsed> parse_value(const option& o, std::string_view raw) {
  auto text = trim(raw);
  parsed out;
  std::optional<value> result;
  switch (o.type) {
  case kind::boolean:
    if (same(text, "true") || same(text, "false"))
      result = value{same(text, "true")};
    break;
  case kind::integer:
    result = parse_integer(o, text);
    break;
  case kind::bytes:
    result = parse_bytes(o, text);
    break;
  case kind::number:
    if (auto x = parse_number(o, text))
      result = value{*x};
    break;
  case kind::seconds:
    if (auto x = parse_number(o, text))
      result = value{static_cast<int64_t>(std::llround(*x * 1000))};
    break;
  case kind::milliseconds:
    result = parse_integer(o, text);
    break;
  case kind::choice:
    if (auto w = find_word(o, text)) {
      result = value{std::string{w->meaning}};
      if (w->mark == '~')
        out.warning =
            quotable(text) + " is not available here and taken as " + std::string{w->meaning};
    }
    break;
  case kind::text:
    if (!text.empty() && clean_text(text))
      result = value{std::string{text}};
    break;
  case kind::list:
    if (clean_text(text))
      result = parse_list(text);
    break;
  case kind::rate:
    if (parse_rate_limit(text))
      result = value{std::string{text}};
    break;
  }
  if (!result)
    return caf::make_error(ec::bad_option,
                           '"' + quotable(raw) + "\" is not allowed; allowed: " + allowed(o));
  if (!o.notice.empty() && to_text(o, *result) != o.fallback)
    out.warning = o.notice;
  out.result = std::move(*result);
  return out;
}

std::string allowed(const option& o) {
  std::vector<std::string> words;
  each_word(o, [&](const word& w) {
    if (w.mark != '~' && (w.mark == 0 || o.type != kind::choice))
      words.emplace_back(w.name);
  });
  std::string names;
  for (auto& w : words)
    names += (names.empty() ? "" : ", ") + w;
  auto range = [&](std::string what) {
    if (o.most != unlimited)
      what += " from " + plain_number(o.least) + " to " + plain_number(o.most);
    else
      what += " of at least " + plain_number(o.least);
    return names.empty() ? what : what + ", or " + names;
  };
  switch (o.type) {
  case kind::boolean:
    return "true or false";
  case kind::integer:
    return o.listed ? "one of " + names : range("a whole number");
  case kind::bytes:
    return range("a number of bytes (also as 64K, 64M, 4G)");
  case kind::number:
    return range("a number");
  case kind::seconds:
    return range("a number of seconds");
  case kind::milliseconds:
    return range("a whole number of milliseconds");
  case kind::choice:
    return words.size() == 1 ? names : "one of " + names;
  case kind::text:
    return "text in UTF-8, not empty";
  case kind::list:
    return R"(a list such as ["a", "b"])";
  case kind::rate:
    return "a number of errors per minute, or with an ISO 8601 duration as in 10/PT30S";
  }
  return {};
}

std::string to_text(const option& o, const value& v) {
  if (auto* b = std::get_if<bool>(&v))
    return *b ? "true" : "false";
  if (auto* x = std::get_if<double>(&v))
    return plain_number(*x);
  if (auto* s = std::get_if<std::string>(&v))
    return *s;
  if (auto* items = std::get_if<std::vector<std::string>>(&v)) {
    std::string out;
    for (auto& item : *items) {
      out += (out.empty() ? "[\"" : ", \"");
      for (char c : item) {
        if (c == '"' || c == '\\')
          out += '\\';
        if (c == '\n')
          out += "\\n";
        else
          out += c;
      }
      out += '"';
    }
    return out.empty() ? "[]" : out + "]";
  }
  auto* n = std::get_if<int64_t>(&v);
  if (n == nullptr)
    return {};
  if (o.type == kind::seconds)
    return plain_number(static_cast<double>(*n) / 1000);
  auto out = std::to_string(*n);
  if (o.type != kind::choice)
    each_word(o, [&](const word& w) {
      if (w.meaning == out)
        out = w.name;
    });
  return out;
}

} // namespace troupe::config
