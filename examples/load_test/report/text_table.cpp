#include "troupe/examples/load_test/report/text_table.hpp"

#include <algorithm>

#include "troupe/examples/load_test/report/escape.hpp"

namespace troupe::load_test::report {

std::string padded_left(const std::string& x, size_t width) {
  auto n = columns(x);
  return n < width ? std::string(width - n, ' ') + x : x;
}

std::string padded_right(const std::string& x, size_t width) {
  auto n = columns(x);
  return n < width ? x + std::string(width - n, ' ') : x;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows, size_t width,
                    size_t left_at_end) {
  std::vector<size_t> widths;
  for (auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (i == widths.size())
        widths.push_back(0);
      widths[i] = std::max(widths[i], columns(row[i]));
    }
  size_t shown = 0, used = 0;
  while (shown < widths.size() && (shown < 2 || used + 2 + widths[shown] <= width))
    used += 2 + widths[shown++];
  std::string out;
  for (auto& row : rows) {
    std::string line = "  ";
    for (size_t i = 0; i < std::min(row.size(), shown); ++i) {
      auto is_left = i == 0 || i + left_at_end >= widths.size();
      line += i == 0 ? "" : "  ";
      line += is_left ? padded_right(row[i], widths[i]) : padded_left(row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += cut_to_columns(line, width) + "\n";
  }
  return out;
}

std::string wrapped(const std::string& text, size_t indent, size_t width) {
  std::string out, line;
  size_t begin = 0;
  while (begin < text.size()) {
    auto end = std::min(text.find(' ', begin), text.size());
    auto word = text.substr(begin, end - begin);
    begin = end + 1;
    if (!line.empty() && indent + columns(line) + 1 + columns(word) > width) {
      out += line + "\n" + std::string(indent, ' ');
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return out + line + "\n";
}

} // namespace troupe::load_test::report
