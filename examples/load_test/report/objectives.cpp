#include "troupe/examples/load_test/report/objectives.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "troupe/config/error.hpp"

namespace troupe::load_test::report {

namespace {

constexpr std::array latencies{objective::latency::ttft, objective::latency::itl,
                               objective::latency::tpot, objective::latency::e2e};

constexpr const char* allowed_names =
    "a name is ttft, itl, tpot or e2e, then _p50 to _p99.9 or _max, as in ttft_p99";

caf::error wrong(std::string_view item, const std::string& why) {
  return caf::make_error(ec::bad_option, "objective '" + std::string{item} + "': " + why);
}

std::string_view trimmed(std::string_view x) {
  while (!x.empty() && (x.front() == ' ' || x.front() == '\t'))
    x.remove_prefix(1);
  while (!x.empty() && (x.back() == ' ' || x.back() == '\t'))
    x.remove_suffix(1);
  return x;
}

/// Digits with at most one point; from_chars alone would take "1e5", "inf" and "-3" too.
std::optional<double> plain_number(std::string_view text) {
  double x = 0;
  if (text.empty() || text.find_first_not_of("0123456789.") != std::string_view::npos)
    return std::nullopt;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (code != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return x;
}

std::optional<double> percentile_of(std::string_view text) {
  if (text == "max")
    return 100.0;
  if (text.empty() || text.front() != 'p')
    return std::nullopt;
  auto p = plain_number(text.substr(1));
  return p && *p > 0 && *p < 100 ? p : std::nullopt;
}

struct unit {
  std::string_view name;
  double in_nanoseconds;
};
constexpr std::array units{unit{"us", 1e3}, unit{"ms", 1e6}, unit{"s", 1e9}};

std::optional<nanoseconds> bound_of(std::string_view text) {
  auto begin_of_unit = text.find_first_not_of("0123456789.");
  if (begin_of_unit == std::string_view::npos)
    return std::nullopt;
  auto number = plain_number(text.substr(0, begin_of_unit));
  for (auto& u : units) {
    if (!number || u.name != text.substr(begin_of_unit))
      continue;
    auto bound = std::round(*number * u.in_nanoseconds);
    constexpr double one_day = 86'400e9;
    if (bound >= 1 && bound <= one_day)
      return static_cast<nanoseconds>(bound);
  }
  return std::nullopt;
}

caf::expected<objective> parse_one(std::string_view item) {
  auto equals = item.find('=');
  if (equals == std::string_view::npos)
    return wrong(item, "no '=' in it; write it as in ttft_p99=500ms");
  auto name = trimmed(item.substr(0, equals));
  auto bound_text = trimmed(item.substr(equals + 1));
  auto underscore = name.find('_');
  auto latency_name = name.substr(0, underscore);
  auto latency = std::find_if(latencies.begin(), latencies.end(),
                              [&](auto x) { return latency_name == name_of(x); });
  if (latency == latencies.end())
    return wrong(item, "'" + std::string{latency_name} + "' is no latency; " + allowed_names);
  auto percentile = underscore == std::string_view::npos
                        ? std::nullopt
                        : percentile_of(name.substr(underscore + 1));
  if (!percentile)
    return wrong(item, "'" + std::string{name} + "' names no percentile; " + allowed_names);
  auto bound = bound_of(bound_text);
  if (!bound)
    return wrong(item, "'" + std::string{bound_text} +
                           "' is no bound; a bound is a number above 0 with its unit us, ms or s, "
                           "as in 500ms, and a day at most");
  return objective{*latency, *percentile, *bound};
}

std::string shortest(double x) {
  char text[40];
  auto end = std::to_chars(text, text + sizeof text, x, std::chars_format::fixed).ptr;
  return {text, end};
}

} // namespace

caf::expected<std::vector<objective>> parse_objectives(std::string_view text) {
  std::vector<objective> all;
  for (size_t begin = 0; begin <= text.size();) {
    auto comma = std::min(text.find(',', begin), text.size());
    auto item = trimmed(text.substr(begin, comma - begin));
    begin = comma + 1;
    if (item.empty())
      return wrong(item, "nothing stands between the commas; write them as in "
                         "ttft_p99=500ms,itl_p99=60ms");
    auto one = parse_one(item);
    if (!one)
      return one.error();
    for (auto& other : all)
      if (other.what == one->what && other.percentile == one->percentile)
        return wrong(item, "this latency and percentile have a bound already (" + to_string(other) +
                               "); leave one of them");
    all.push_back(*one);
  }
  return all;
}

const char* name_of(objective::latency x) {
  switch (x) {
  case objective::latency::ttft:
    return "ttft";
  case objective::latency::itl:
    return "itl";
  case objective::latency::tpot:
    return "tpot";
  case objective::latency::e2e:
    return "e2e";
  }
  return "unknown";
}

std::string percentile_name(double percentile) {
  return percentile >= 100 ? "max" : "p" + shortest(percentile);
}

std::string to_string(const objective& x) {
  auto best = units[0];
  for (auto& u : units)
    if (static_cast<double>(x.at_most) >= u.in_nanoseconds)
      best = u;
  return std::string{name_of(x.what)} + "_" + percentile_name(x.percentile) + "=" +
         shortest(static_cast<double>(x.at_most) / best.in_nanoseconds) + std::string{best.name};
}

} // namespace troupe::load_test::report
