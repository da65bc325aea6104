#include "troupe/examples/load_test/report/format.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace troupe::load_test::report {

namespace {

/// Three significant digits without an exponent, and no trailing zeros behind the point.
std::string three_digits(double x) {
  if (x == 0)
    return "0";
  auto magnitude = static_cast<int>(std::floor(std::log10(std::fabs(x))));
  auto decimals = std::clamp(2 - magnitude, 0, 6);
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, x);
  std::string s{text};
  if (s.find('.') != std::string::npos) {
    s.erase(s.find_last_not_of('0') + 1);
    if (s.back() == '.')
      s.pop_back();
  }
  return s;
}

} // namespace

std::string format_count(unsigned long long x) {
  auto s = std::to_string(x);
  for (auto i = static_cast<std::ptrdiff_t>(s.size()) - 3; i > 0; i -= 3)
    s.insert(static_cast<size_t>(i), ",");
  return s;
}

std::string format_number(double x) {
  if (!std::isfinite(x))
    return "-";
  if (x < 0)
    return "-" + format_number(-x);
  if (x >= 1e10)
    return three_digits(x / 1e9) + " G";
  if (x >= 1e7)
    return three_digits(x / 1e6) + " M";
  if (x >= 1000)
    return format_count(static_cast<unsigned long long>(std::llround(x)));
  return three_digits(x);
}

std::string format_ms(double ms) {
  if (!std::isfinite(ms))
    return "-";
  if (ms < 0)
    return "-" + format_ms(-ms);
  if (ms == 0)
    return "0 ms";
  if (ms < 0.9995)
    return three_digits(ms * 1e3) + " us";
  if (ms < 999.5)
    return three_digits(ms) + " ms";
  if (ms < 119'500)
    return three_digits(ms / 1e3) + " s";
  auto seconds = std::llround(ms / 1e3);
  return std::to_string(seconds / 60) + " min " + std::to_string(seconds % 60) + " s";
}

std::string format_percent(double share) {
  if (!std::isfinite(share))
    return "-";
  auto percent = share * 100;
  if (percent == 0)
    return "0 %";
  char text[32];
  std::snprintf(text, sizeof text, std::fabs(percent) < 9.95 ? "%.1f %%" : "%.0f %%", percent);
  return text;
}

std::string format_clock(double seconds) {
  if (!std::isfinite(seconds))
    return "-";
  auto s = static_cast<long long>(std::max(seconds, 0.0));
  char text[48];
  if (s >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  return text;
}

} // namespace troupe::load_test::report
