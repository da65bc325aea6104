#include "troupe/examples/load_test/cli/load_flags.hpp"

#include <charconv>
#include <cstdio>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/duration.hpp"
#include "troupe/examples/load_test/load/trace_file.hpp"

namespace troupe::load_test {

namespace {

constexpr nanoseconds default_duration = 10'000'000'000;

caf::error bad(const std::string& what) {
  return caf::make_error(ec::bad_option, what);
}

} // namespace

caf::expected<nanoseconds> time_of(const char* flag, const std::string& text) {
  auto t = parse_duration(text);
  if (!t)
    return bad(std::string{flag} + " \"" + text +
               "\" is no time; allowed: a number with ns, us, ms, s, m or h, as 500ms or 30s");
  return *t;
}

caf::expected<timed_load> load_of(const options& o) {
  timed_load result;
  auto& [out, warm_up, duration] = result;
  auto w = time_of("--warmup", o.warm_up);
  auto up = o.ramp_up.empty() ? caf::expected<nanoseconds>{0} : time_of("--ramp-up", o.ramp_up);
  auto think = time_of("--think-time", o.think_time);
  for (const auto* t : {&w, &up, &think})
    if (!*t)
      return t->error();
  warm_up = *w;
  if (!o.duration.empty()) {
    auto d = time_of("--duration", o.duration);
    if (!d)
      return d.error();
    if (*d == 0)
      return bad("--duration must be greater than 0");
    duration = *d;
  } else if (o.requests == 0 && o.trace.empty()) {
    duration = default_duration;
  }
  out.requests = o.requests;
  out.stop_at = duration > 0 ? warm_up + duration : 0;
  out.ramp_up = *up;
  out.think_time = *think;
  out.turns = o.turns;
  auto& a = out.arrival;
  a.kind = o.arrivals == "constant" ? arrival_kind::constant
           : o.arrivals == "gamma"  ? arrival_kind::gamma
           : o.arrivals == "ramp"   ? arrival_kind::ramp
                                    : arrival_kind::poisson;
  a.burstiness = o.burstiness;
  a.ramp_from = o.ramp_from;
  a.speed = o.trace_speed;
  if (!o.trace.empty()) {
    auto trace = open_trace(o.trace);
    if (!trace)
      return trace.error();
    a.kind = arrival_kind::trace;
    a.trace = *trace;
  }
  if (a.kind == arrival_kind::ramp) {
    auto t = o.ramp_time.empty() ? caf::expected<nanoseconds>{out.stop_at}
                                 : time_of("--ramp-time", o.ramp_time);
    if (!t)
      return t.error();
    if (*t == 0)
      return bad("--arrivals ramp needs --ramp-time or --duration");
    a.ramp_time = *t;
  }
  return result;
}

std::string describe_load(const load_plan& plan) {
  char text[96];
  if (plan.users > 0) {
    std::snprintf(text, sizeof text, "closed loop, %u user%s", plan.users,
                  plan.users == 1 ? "" : "s");
    return text;
  }
  const auto& a = plan.arrival;
  switch (a.kind) {
  case arrival_kind::constant:
    std::snprintf(text, sizeof text, "open loop, constant, %g requests/s", a.rate);
    break;
  case arrival_kind::poisson:
    std::snprintf(text, sizeof text, "open loop, poisson, %g requests/s", a.rate);
    break;
  case arrival_kind::gamma:
    std::snprintf(text, sizeof text, "open loop, gamma of shape %g, %g requests/s", a.burstiness,
                  a.rate);
    break;
  case arrival_kind::ramp:
    std::snprintf(text, sizeof text, "open loop, ramp from %g to %g requests/s in %s", a.ramp_from,
                  a.rate, show_duration(a.ramp_time).c_str());
    break;
  case arrival_kind::trace:
    std::snprintf(text, sizeof text, "open loop, trace of %zu requests at %gx speed",
                  a.trace->size(), a.speed);
    break;
  }
  return text;
}

caf::expected<behaviour_plan> parse_behaviour(const std::string& text) {
  behaviour_plan out;
  auto colon = text.find(':');
  auto kind = text.substr(0, colon);
  uint32_t number = 0;
  auto value = colon == std::string::npos ? std::string{} : text.substr(colon + 1);
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  auto sound = error == std::errc{} && end == value.data() + value.size();
  constexpr uint32_t most_connections = 60'000;
  if (sound && kind == "cancel" && number > 0)
    out.odd.cancel_after = number;
  else if (sound && kind == "slow-reader" && number > 0)
    out.odd.read_bytes_per_s = number;
  else if (sound && kind == "half-close")
    out.odd.half_close_after = number;
  else if (sound && kind == "storm" && number > 0 && number <= most_connections)
    out.storm = number;
  else
    return bad("--behaviour \"" + text +
               "\" is none; allowed: cancel:K (K tokens, from 1 on), slow-reader:BYTES_PER_S, "
               "half-close:K (0: as soon as the request is sent), storm:N (up to 60000)");
  return out;
}

} // namespace troupe::load_test
