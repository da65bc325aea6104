#include "troupe/examples/load_test/load/arrivals.hpp"

#include <cmath>
#include <utility>

namespace troupe::load_test {

namespace {

nanoseconds from_seconds(double s) {
  return static_cast<nanoseconds>(std::llround(s * 1e9));
}

/// When arrival `k` comes if the rate grows evenly: the k at which the integral of the rate is k.
double ramp_seconds(const arrival_settings& s, double k) {
  auto time = static_cast<double>(s.ramp_time) / 1e9;
  auto in_ramp = (s.ramp_from + s.rate) / 2 * time;
  if (time <= 0 || k >= in_ramp)
    return time + (k - in_ramp) / s.rate;
  auto slope = (s.rate - s.ramp_from) / time;
  if (std::abs(slope) < 1e-12)
    return k / s.rate;
  return (std::sqrt(s.ramp_from * s.ramp_from + 2 * slope * k) - s.ramp_from) / slope;
}

} // namespace

arrivals::arrivals(arrival_settings settings)
    : settings_{std::move(settings)}, random_{settings_.seed} {}

std::optional<nanoseconds> arrivals::next() {
  auto k = count_++;
  switch (settings_.kind) {
  case arrival_kind::constant:
    return from_seconds(static_cast<double>(k) / settings_.rate);
  case arrival_kind::poisson:
    seconds_ += random_.exponential() / settings_.rate;
    return from_seconds(seconds_);
  case arrival_kind::gamma:
    seconds_ += random_.gamma(settings_.burstiness) / (settings_.burstiness * settings_.rate);
    return from_seconds(seconds_);
  case arrival_kind::ramp:
    return from_seconds(ramp_seconds(settings_, static_cast<double>(k)));
  case arrival_kind::trace:
    break;
  }
  if (!settings_.trace || k >= settings_.trace->size())
    return std::nullopt;
  return from_seconds(static_cast<double>((*settings_.trace)[k].at) / 1e9 / settings_.speed);
}

} // namespace troupe::load_test
