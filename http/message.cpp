#include "troupe/http/message.hpp"

#include <algorithm>

#include "troupe/config/hex.hpp"

namespace troupe::http {

namespace {

const std::string* find(const std::vector<name_value>& pairs, std::string_view name) {
  for (const auto& pair : pairs)
    if (pair.first == name)
      return &pair.second;
  return nullptr;
}

std::string_view trim(std::string_view text) {
  auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool decode_pairs(std::string_view text, std::vector<name_value>& to) {
  while (!text.empty()) {
    auto part = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    if (part.empty())
      continue;
    auto equals = part.find('=');
    auto name = percent_decode(part.substr(0, equals), true);
    auto content = percent_decode(
        equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1), true);
    if (!name || !content)
      return false;
    to.emplace_back(std::move(*name), std::move(*content));
  }
  return true;
}

/// The value of `name=` among a header's parameters, quotes taken off.
std::string parameter_of(std::string_view header, std::string_view name) {
  auto folded = lower(header);
  auto wanted = std::string{name} + "=";
  for (size_t at = folded.find(wanted); at != std::string::npos; at = folded.find(wanted, at + 1)) {
    if (at > 0 && folded[at - 1] != ' ' && folded[at - 1] != ';' && folded[at - 1] != '\t')
      continue;
    auto rest = header.substr(at + wanted.size());
    if (!rest.empty() && rest.front() == '"')
      return std::string{rest.substr(1, rest.find('"', 1) - 1)};
    return std::string{trim(rest.substr(0, rest.find(';')))};
  }
  return {};
}

std::optional<std::vector<form_part>> parse_multipart(std::string_view content_type,
                                                      std::string_view body) {
  auto boundary = parameter_of(content_type, "boundary");
  if (boundary.empty())
    return std::nullopt;
  auto delimiter = "--" + boundary;
  std::vector<form_part> parts;
  auto at = body.find(delimiter);
  while (at != std::string_view::npos) {
    auto start = at + delimiter.size();
    if (body.substr(start, 2) == "--")
      return parts;
    auto end = body.find("\r\n" + delimiter, start);
    auto blank = body.find("\r\n\r\n", start);
    if (end == std::string_view::npos || blank == std::string_view::npos)
      return std::nullopt;
    form_part part;
    // A part without content ends where its header does.
    auto content = std::min(blank + 4, end);
    part.content = std::string{body.substr(content, end > content ? end - content : 0)};
    auto head = body.substr(start, blank - start);
    while (!head.empty()) {
      auto line = head.substr(0, head.find("\r\n"));
      head.remove_prefix(std::min(head.size(), line.size() + 2));
      if (lower(line.substr(0, 20)).starts_with("content-disposition:"))
        part.name = parameter_of(line, "name");
    }
    parts.push_back(std::move(part));
    at = end + 2;
  }
  return std::nullopt;
}

} // namespace

const std::string* request::header(std::string_view name) const {
  return find(headers, name);
}
const std::string* request::query_value(std::string_view name) const {
  return find(query, name);
}

std::optional<std::string> percent_decode(std::string_view text, bool plus) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size())
        return std::nullopt;
      auto high = config::hex_digit(text[i + 1]);
      auto low = config::hex_digit(text[i + 2]);
      if (high < 0 || low < 0)
        return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += plus && text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

bool parse_target(std::string_view target, request& to) {
  // Proxies send the absolute form.
  for (std::string_view scheme : {"http://", "https://"})
    if (target.starts_with(scheme)) {
      auto slash = target.find('/', scheme.size());
      target = slash == std::string_view::npos ? std::string_view{"/"} : target.substr(slash);
    }
  if (target == "*") {
    to.path = "/";
    return true;
  }
  if (!target.starts_with('/'))
    return false;
  target = target.substr(0, target.find('#'));
  auto question = target.find('?');
  auto path = percent_decode(target.substr(0, question), false);
  if (!path)
    return false;
  to.path = std::move(*path);
  return question == std::string_view::npos || decode_pairs(target.substr(question + 1), to.query);
}

void unpack_attributes(std::string_view text, request& to) {
  while (!text.empty()) {
    auto part = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    auto equals = part.find('=');
    if (equals == std::string_view::npos)
      continue;
    auto name = lower(trim(part.substr(0, equals)));
    if (!name.empty())
      to.headers.emplace_back(std::move(name), std::string{trim(part.substr(equals + 1))});
  }
}

std::optional<std::vector<form_part>> parse_form(std::string_view content_type,
                                                 std::string_view body) {
  auto folded = lower(content_type);
  if (folded.find("multipart/form-data") != std::string::npos)
    return parse_multipart(content_type, body);
  if (folded.find("application/x-www-form-urlencoded") == std::string::npos)
    return std::nullopt;
  std::vector<name_value> pairs;
  if (!decode_pairs(body, pairs))
    return std::nullopt;
  std::vector<form_part> parts;
  for (auto& pair : pairs)
    parts.push_back({std::move(pair.first), std::move(pair.second)});
  return parts;
}

std::string lower(std::string_view text) {
  std::string out{text};
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

std::string reason_phrase(std::string_view text) {
  std::string out{text.substr(0, 200)};
  for (auto& c : out) {
    if (c == '\r' || c == '\n' || c == '\t')
      c = ' ';
    else if (c < 0x20 || c >= 0x7F)
      c = '?';
  }
  return out;
}

} // namespace troupe::http
