#include "troupe/http/dialects/csv.hpp"

#include <algorithm>

#include "troupe/http/json/write.hpp"
#include "troupe/http/message.hpp"

namespace troupe::http {

namespace {

using csv_row = std::vector<std::string>;

/// Takes one field and what ends it off `rest`. @returns Whether the row goes on; nullopt: a quote
/// is never closed.
std::optional<bool> take_field(std::string_view& rest, std::string& out) {
  if (rest.starts_with('"')) {
    rest.remove_prefix(1);
    for (;;) {
      const auto end = rest.find('"');
      if (end == std::string_view::npos)
        return std::nullopt;
      out += rest.substr(0, end);
      rest.remove_prefix(end + 1);
      if (!rest.starts_with('"'))
        break;
      out += '"';
      rest.remove_prefix(1);
    }
  }
  const auto end = std::min(rest.find_first_of(",\r\n"), rest.size());
  out += rest.substr(0, end);
  rest.remove_prefix(end);
  if (rest.starts_with(',')) {
    rest.remove_prefix(1);
    return true;
  }
  if (rest.starts_with('\r'))
    rest.remove_prefix(1);
  if (rest.starts_with('\n'))
    rest.remove_prefix(1);
  return false;
}

/// Rows without the empty ones; nullopt: a quote is never closed.
std::optional<std::vector<csv_row>> rows_of(std::string_view rest) {
  std::vector<csv_row> rows;
  while (!rest.empty()) {
    csv_row row;
    std::optional<bool> more = true;
    while (more == true) {
      std::string field;
      more = take_field(rest, field);
      row.push_back(std::move(field));
    }
    if (!more)
      return std::nullopt;
    if (row.size() > 1 || !row.front().empty())
      rows.push_back(std::move(row));
  }
  return rows;
}

} // namespace

std::variant<json::value, problem> read_csv(std::string_view body) {
  const auto text = json::valid_utf8(body);
  auto rows = rows_of(text);
  if (!rows)
    return problem{"inputs", "the CSV body has a quote that is never closed"};
  if (rows->size() < 2)
    return problem{"inputs", "a CSV body needs a row that names its columns and at least one more"};
  const auto names = std::move(rows->front());
  rows->erase(rows->begin());
  auto column = [&](std::string_view word) {
    return std::find_if(names.begin(), names.end(), [&](const std::string& name) {
      return lower(name).find(word) != std::string::npos;
    });
  };
  const auto inputs = column("inputs");
  if (inputs == names.end() && column("question") == names.end() &&
      column("context") == names.end())
    return problem{"inputs", "no column of the CSV body is called inputs, question or context"};
  json::array out;
  for (auto& row : *rows) {
    row.resize(names.size());
    if (inputs != names.end()) {
      out.emplace_back(std::move(row[static_cast<size_t>(inputs - names.begin())]));
      continue;
    }
    json::object object;
    for (size_t i = 0; i < names.size(); ++i)
      object.emplace_back(names[i], json::value{std::move(row[i])});
    out.emplace_back(std::move(object));
  }
  return json::value{std::move(out)};
}

void append_csv(std::string& out, std::string_view field) {
  if (field.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += field;
    return;
  }
  out += '"';
  for (auto c : field) {
    if (c == '"')
      out += '"';
    out += c;
  }
  out += '"';
}

} // namespace troupe::http
