#include "troupe/config/rate_limit.hpp"

#include <charconv>
#include <cmath>

namespace troupe::config {

namespace {

char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

/// One or more of "<number><unit>", each unit at most once and in the order of `units`; adds their
/// seconds.
bool add_fields(std::string_view text, std::string_view units, const double* seconds, double& sum) {
  size_t next_unit = 0;
  if (text.empty())
    return false;
  while (!text.empty()) {
    double number = 0;
    auto [end, problem] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (problem != std::errc{} || !std::isfinite(number) || number < 0 || *text.data() == '-')
      return false;
    const auto digits = text.substr(0, static_cast<size_t>(end - text.data()));
    text.remove_prefix(digits.size());
    if (text.empty())
      return false;
    const auto unit = units.find(upper(text.front()), next_unit);
    if (unit == std::string_view::npos)
      return false;
    // Only seconds may have a fraction.
    if (units[unit] != 'S' && digits.find('.') != std::string_view::npos)
      return false;
    sum += number * seconds[unit];
    next_unit = unit + 1;
    text.remove_prefix(1);
  }
  return true;
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (text.empty() || upper(text.front()) != 'P')
    return std::nullopt;
  text.remove_prefix(1);
  constexpr double day[] = {86'400};
  constexpr double time[] = {3'600, 60, 1};
  auto t = text.find_first_of("Tt");
  double seconds = 0;
  if (t != 0 && !add_fields(text.substr(0, t), "D", day, seconds))
    return std::nullopt;
  if (t != std::string_view::npos && !add_fields(text.substr(t + 1), "HMS", time, seconds))
    return std::nullopt;
  constexpr double ten_years = 315'360'000;
  if (seconds < 0.001 || seconds > ten_years)
    return std::nullopt;
  return std::chrono::milliseconds{std::llround(seconds * 1000)};
}

} // namespace

std::optional<rate_limit> parse_rate_limit(std::string_view text) {
  rate_limit out;
  const auto slash = text.find('/');
  const auto count = text.substr(0, slash);
  auto [end, problem] = std::from_chars(count.data(), count.data() + count.size(), out.most);
  if (problem != std::errc{} || end != count.data() + count.size() || count.empty())
    return std::nullopt;
  if (slash != std::string_view::npos) {
    auto window = parse_duration(text.substr(slash + 1));
    if (!window)
      return std::nullopt;
    out.window = *window;
  }
  return out;
}

} // namespace troupe::config
