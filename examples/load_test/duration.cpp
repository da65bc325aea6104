#include "troupe/examples/load_test/duration.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace troupe::load_test {

namespace {

struct unit {
  std::string_view name;
  double ns;
};

constexpr unit units[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6},  {"s", 1e9},
                          {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}};
constexpr double longest = 366.0 * 24 * 3600e9;

} // namespace

std::optional<nanoseconds> parse_duration(std::string_view text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value) || value < 0)
    return std::nullopt;
  auto name = text.substr(static_cast<size_t>(end - text.data()));
  if (name.empty())
    name = "s";
  for (const auto& u : units)
    if (u.name == name && value * u.ns <= longest)
      return static_cast<nanoseconds>(std::llround(value * u.ns));
  return std::nullopt;
}

std::string show_duration(nanoseconds t) {
  auto value = static_cast<double>(t);
  const auto& u = value >= 1e9   ? units[3]
                  : value >= 1e6 ? units[2]
                  : value >= 1e3 ? units[1]
                                 : units[0];
  char text[48];
  std::snprintf(text, sizeof text, "%.4g %.*s", value / u.ns, static_cast<int>(u.name.size()),
                u.name.data());
  return text;
}

} // namespace troupe::load_test
