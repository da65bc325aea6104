#include "troupe/http/error_rates.hpp"

#include <algorithm>
#include <string>

#include "troupe/actors/telemetry/log.hpp"

namespace troupe::http {

namespace {

constexpr const char* names[] = {"error_rate_wlm", "error_rate_server", "error_rate_model",
                                 "error_rate_any"};

} // namespace

error_rates::error_rates(const error_rate_limits& limits)
    : limits_(limits), limited_(std::any_of(limits.begin(), limits.end(),
                                            [](const auto& x) { return x.has_value(); })) {}

void error_rates::record(int status, bool model, clock::time_point now) {
  if (!limited_ || (status != 424 && status < 500) || exceeded())
    return;
  std::lock_guard guard{mutex_};
  count(status == 503 || status == 507 ? error_class::wlm : error_class::server, now);
  if (model)
    count(error_class::model, now);
  count(error_class::any, now);
}

void error_rates::count(error_class what, clock::time_point now) {
  const auto place = static_cast<size_t>(what);
  const auto& limit = limits_[place];
  if (!limit)
    return;
  auto& latest = latest_[place];
  while (!latest.empty() && now - latest.front() > limit->window)
    latest.pop_front();
  if (latest.size() < limit->most)
    return latest.push_back(now);
  if (!exceeded_.exchange(true))
    telemetry::log(telemetry::log_level::error, {},
                   std::string{names[place]} + " is exceeded (more than " +
                       std::to_string(limit->most) + " errors in " +
                       std::to_string(limit->window.count()) +
                       " ms): /ping answers 503 from now on");
}

} // namespace troupe::http
