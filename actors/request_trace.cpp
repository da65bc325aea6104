#include "troupe/actors/request_trace.hpp"

namespace troupe {

namespace {

using steady = std::chrono::steady_clock;

/// As nanoseconds since 1970; 0 for a moment that never came.
int64_t unix_ns(steady::time_point when) {
  using namespace std::chrono;
  if (when == steady::time_point{})
    return 0;
  auto ago = duration_cast<nanoseconds>(steady::now() - when);
  return duration_cast<nanoseconds>(system_clock::now().time_since_epoch() - ago).count();
}

bool is_failure(telemetry::outcome how) {
  return how != telemetry::outcome::length && how != telemetry::outcome::eos_token &&
         how != telemetry::outcome::stop_sequence;
}

} // namespace

void record_trace(const request_state& state, telemetry::outcome how) {
  const auto& request = state.request;
  const auto& sampling = request.params.sampling;
  auto parent = telemetry::parse_traceparent(request.traceparent);
  if (parent && !parent->sampled)
    return;
  telemetry::request_trace out;
  if (parent)
    out.parent = request.traceparent;
  out.request = request.id;
  out.model = state.env->model;
  out.operation = request.input.kind == prompt_kind::chat ? "chat" : "text_completion";
  out.arrived = unix_ns(state.arrived);
  if (state.drawn)
    out.begun = unix_ns(state.submitted + std::chrono::microseconds{state.waited_us});
  out.first_token = unix_ns(state.first_token);
  out.ended = unix_ns(steady::now());
  out.prompt_tokens = state.prompt_tokens;
  out.cached_tokens = state.cached_tokens;
  for (const auto& branch : state.branches)
    out.generated_tokens += branch.text.generated_tokens();
  out.max_tokens = request.params.max_new_tokens;
  out.temperature = sampling.sample ? static_cast<double>(sampling.temperature) : 0.0;
  out.top_p = static_cast<double>(sampling.top_p);
  out.outcome = to_string_view(how);
  out.failed = is_failure(how);
  telemetry::traces().push(std::move(out));
}

} // namespace troupe
