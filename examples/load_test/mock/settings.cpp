#include "troupe/examples/load_test/mock/settings.hpp"

#include <charconv>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/duration.hpp"

namespace troupe::load_test {

namespace {

template <class T>
bool number(std::string_view text, T& to, T low, T high) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high)
    return false;
  to = value;
  return true;
}

bool time(std::string_view text, nanoseconds& to) {
  auto value = parse_duration(text);
  if (value)
    to = *value;
  return value.has_value();
}

bool set(mock_settings& to, std::string_view name, std::string_view value) {
  auto colon = value.find(':');
  auto first = value.substr(0, colon);
  auto second = colon == std::string_view::npos ? std::string_view{} : value.substr(colon + 1);
  if (name == "ttft")
    return time(value, to.ttft);
  if (name == "itl")
    return time(value, to.itl);
  if (name == "jitter")
    return time(value, to.jitter);
  if (name == "tokens")
    return number<uint32_t>(value, to.output_tokens, 1, 1u << 24);
  if (name == "pause")
    return time(first, to.pause_at) && time(second, to.pause_for);
  if (name == "errors") {
    if (!number(first, to.error_share, 0.0, 1.0))
      return false;
    if (second == "drop") {
      to.error_status = 0;
      return true;
    }
    return second.empty() || number<uint16_t>(second, to.error_status, 400, 599);
  }
  if (name == "threads")
    return number<uint32_t>(value, to.threads, 1, 64);
  if (name == "seed")
    return number<uint64_t>(value, to.seed, 0, UINT64_MAX);
  return false;
}

} // namespace

caf::expected<mock_settings> parse_mock(std::string_view text) {
  mock_settings out;
  while (!text.empty()) {
    auto end = text.find(',');
    auto item = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    auto equals = item.find('=');
    if (equals == std::string_view::npos ||
        !set(out, item.substr(0, equals), item.substr(equals + 1)))
      return caf::make_error(
          ec::bad_option,
          "\"" + std::string{item} +
              "\" is no setting of the mock; allowed, separated by commas: ttft=TIME, itl=TIME, "
              "jitter=TIME, tokens=N, pause=AT:FOR, errors=SHARE[:STATUS|:drop], threads=N (1 to "
              "64), "
              "seed=N; a TIME is as 20ms");
  }
  return out;
}

} // namespace troupe::load_test
