#include "troupe/examples/load_test/load/trace_file.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iterator>
#include <optional>

#include <boost/json/parse.hpp>

#include "troupe/config/error.hpp"

namespace troupe::load_test {

namespace {

namespace json = boost::json;

constexpr double longest_trace_s = 366.0 * 24 * 3600;
constexpr double most_tokens = 1 << 24;

std::vector<std::string_view> fields_of(std::string_view line, std::string_view separators) {
  std::vector<std::string_view> out;
  for (;;) {
    auto begin = line.find_first_not_of(separators);
    if (begin == std::string_view::npos)
      return out;
    line.remove_prefix(begin);
    auto end = line.find_first_of(separators);
    out.push_back(line.substr(0, end));
    if (end == std::string_view::npos)
      return out;
    line.remove_prefix(end);
  }
}

std::optional<double> number(std::string_view text) {
  double out = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(out) || out < 0)
    return std::nullopt;
  return out;
}

/// "2023-11-16 18:15:46.68" in seconds since 1970.
std::optional<double> date(const std::string& text) {
  std::tm t{};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%d %H:%M:%S", &t);
  if (!rest)
    return std::nullopt;
  auto whole = static_cast<double>(::timegm(&t));
  if (*rest != '.')
    return whole;
  auto fraction = number(std::string_view{rest}.substr(0, 10));
  return fraction ? std::optional{whole + *fraction} : std::nullopt;
}

uint32_t tokens(double n) {
  return static_cast<uint32_t>(std::clamp(n, 0.0, most_tokens));
}

struct line_entry {
  double seconds = 0;
  uint32_t input = 0, output = 0;
};

std::optional<line_entry> read_json(std::string_view line) {
  json::error_code error;
  auto value = json::parse({line.data(), line.size()}, error);
  if (error || !value.is_object())
    return std::nullopt;
  auto member = [&](const char* name) -> std::optional<double> {
    const auto* v = value.get_object().if_contains(name);
    if (!v || !v->is_number())
      return std::nullopt;
    return v->to_number<double>();
  };
  auto at = member("timestamp");
  if (!at || !std::isfinite(*at) || *at < 0)
    return std::nullopt;
  return line_entry{*at / 1000, tokens(member("input_length").value_or(0)),
                    tokens(member("output_length").value_or(0))};
}

std::optional<line_entry> read_line(std::string_view line) {
  if (line.front() == '{')
    return read_json(line);
  auto dated = line.find(',') != std::string_view::npos && line.find(' ') < line.find(',') &&
               line.find('-') < line.find(' ');
  auto fields = fields_of(line, dated ? "," : ", \t;");
  auto at = dated ? date(std::string{fields[0]}) : number(fields[0]);
  if (!at)
    return std::nullopt;
  line_entry out{*at, 0, 0};
  for (size_t i = 1; i < std::min<size_t>(fields.size(), 3); ++i) {
    auto n = number(fields[i]);
    if (!n)
      return std::nullopt;
    (i == 1 ? out.input : out.output) = tokens(*n);
  }
  return out;
}

} // namespace

caf::expected<trace_ptr> parse_trace(const std::string& text, const std::string& name) {
  std::vector<line_entry> entries;
  std::string_view rest = text;
  for (size_t number = 1; !rest.empty(); ++number) {
    auto end = rest.find('\n');
    auto line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    auto last = line.find_last_not_of(" \t\r");
    line = last == std::string_view::npos ? std::string_view{} : line.substr(0, last + 1);
    if (line.empty() || line.front() == '#')
      continue;
    auto entry = read_line(line);
    if (!entry && entries.empty() && number == 1)
      continue; // a header
    if (!entry)
      return caf::make_error(
          ec::bad_option, "--trace " + name + ", line " + std::to_string(number) +
                              ": not a time; known: SECONDS[,INPUT_TOKENS,OUTPUT_TOKENS], a date "
                              "in place of the seconds, {\"timestamp\": MILLISECONDS, "
                              "\"input_length\": N, \"output_length\": N}");
    entries.push_back(*entry);
  }
  if (entries.empty())
    return caf::make_error(ec::bad_option, "--trace " + name + " holds no request");
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
  auto first = entries.front().seconds;
  if (entries.back().seconds - first > longest_trace_s)
    return caf::make_error(ec::bad_option, "--trace " + name + " is longer than a year");
  auto out = std::make_shared<std::vector<trace_entry>>();
  out->reserve(entries.size());
  for (const auto& e : entries)
    out->push_back(
        {static_cast<nanoseconds>(std::llround((e.seconds - first) * 1e9)), e.input, e.output});
  return trace_ptr{std::move(out)};
}

caf::expected<trace_ptr> open_trace(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return caf::make_error(ec::bad_option, "--trace " + file.string() + " cannot be read");
  return parse_trace(std::string{std::istreambuf_iterator<char>{in}, {}}, file.string());
}

} // namespace troupe::load_test
