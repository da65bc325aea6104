#include "troupe/actors/telemetry/traces.hpp"

#include <algorithm>

namespace troupe::telemetry {

namespace {

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool all_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

} // namespace

std::optional<trace_parent> parse_traceparent(std::string_view text) {
  // 00-TRACE-SPAN-FLAGS; a later version may add to it, but keeps these.
  constexpr size_t length = 55;
  if (text.size() < length || text[2] != '-' || text[35] != '-' || text[52] != '-')
    return std::nullopt;
  auto version = text.substr(0, 2);
  if (!is_hex(version) || version == "ff" ||
      (text.size() > length && (version == "00" || text[length] != '-')))
    return std::nullopt;
  trace_parent out;
  out.trace = text.substr(3, 32);
  out.span = text.substr(36, 16);
  auto flags = text.substr(53, 2);
  if (!is_hex(out.trace) || !is_hex(out.span) || !is_hex(flags) || all_zero(out.trace) ||
      all_zero(out.span))
    return std::nullopt;
  auto low = flags[1] <= '9' ? flags[1] - '0' : flags[1] - 'a' + 10;
  out.sampled = (low & 1) != 0;
  return out;
}

void trace_queue::push(request_trace trace) {
  std::lock_guard lock{mutex_};
  if (waiting_.size() >= capacity_)
    return drop(1);
  waiting_.push_back(std::move(trace));
  if (waiting_.size() == 1)
    arrived_.notify_one();
}

std::vector<request_trace> trace_queue::take(size_t most, std::chrono::milliseconds patience) {
  std::unique_lock lock{mutex_};
  arrived_.wait_for(lock, patience, [&] { return woken_ || !waiting_.empty(); });
  woken_ = false;
  auto count = static_cast<std::ptrdiff_t>(std::min(most, waiting_.size()));
  std::vector<request_trace> out{std::make_move_iterator(waiting_.begin()),
                                 std::make_move_iterator(waiting_.begin() + count)};
  waiting_.erase(waiting_.begin(), waiting_.begin() + count);
  return out;
}

void trace_queue::wake() {
  std::lock_guard lock{mutex_};
  woken_ = true;
  arrived_.notify_one();
}

trace_queue& traces() {
  static trace_queue queue;
  return queue;
}

} // namespace troupe::telemetry
