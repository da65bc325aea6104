#include "troupe/examples/load_test/report/axis.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "troupe/examples/load_test/report/format.hpp"

namespace troupe::load_test::report {

namespace {

double nice_step(double span, int about) {
  auto rough = span / about;
  auto power = std::pow(10, std::floor(std::log10(rough)));
  for (auto factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough * 0.999)
      return factor * power;
  return 10 * power;
}

} // namespace

axis axis::linear(double low, double high, const formatter& label, bool rounded, int about) {
  axis a;
  if (!(high > low))
    high = low + (low == 0 ? 1 : std::fabs(low));
  auto step = nice_step(high - low, about);
  a.low_ = rounded ? std::floor(low / step + 1e-9) * step : low;
  a.high_ = rounded ? std::ceil(high / step - 1e-9) * step : high;
  auto first = std::ceil(a.low_ / step - 1e-9);
  for (auto i = first; i * step <= a.high_ + step * 1e-6; ++i) {
    auto value = i * step + 0.0; // -0 becomes 0
    a.ticks_.push_back({value, label(value)});
  }
  return a;
}

axis axis::clock(double high_s, int about) {
  constexpr std::array steps{1.0,   2.0,   5.0,   10.0,   15.0,   30.0,   60.0,    120.0,
                             300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0};
  if (high_s < about) // Below a second to a tick the clock is of no use.
    return linear(
        0, std::max(high_s, 1e-3), [](double s) { return format_ms(s * 1000); }, false, about);
  axis a;
  a.high_ = high_s;
  auto step = steps.back();
  for (auto s : steps)
    if (high_s / s <= about + 1) {
      step = s;
      break;
    }
  for (double t = 0; t <= high_s * (1 + 1e-9); t += step)
    a.ticks_.push_back({t, format_clock(t)});
  return a;
}

axis axis::logarithmic(double low, double high, const formatter& label) {
  axis a;
  a.logarithmic_ = true;
  a.low_ = low;
  a.high_ = std::max(high, low * 1.01);
  auto decades = std::log10(a.high_ / a.low_);
  for (auto e = std::floor(std::log10(a.low_)); e <= std::ceil(std::log10(a.high_)); ++e)
    for (auto factor : {1.0, 2.0, 5.0}) {
      auto v = factor * std::pow(10, e);
      if (v < a.low_ * 0.999 || v > a.high_ * 1.001)
        continue;
      auto labelled = factor == 1 || decades < 2.2;
      a.ticks_.push_back({v, labelled ? label(v) : ""});
    }
  return a;
}

axis axis::fitting(double low, double high, const formatter& label, double log_from) {
  if (low > 0 && high / low > log_from) {
    // Room above and below, so that no line runs along the frame.
    return logarithmic(low / 1.15, high * 1.15, label);
  }
  return linear(0, high, label);
}

double axis::place(double value) const {
  if (logarithmic_)
    return value <= 0 ? 0 : std::clamp(std::log(value / low_) / std::log(high_ / low_), 0.0, 1.0);
  return std::clamp((value - low_) / (high_ - low_), 0.0, 1.0);
}

double axis::value(double place) const {
  return logarithmic_ ? low_ * std::pow(high_ / low_, place) : low_ + place * (high_ - low_);
}

} // namespace troupe::load_test::report
