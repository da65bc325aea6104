#include "troupe/config/error.hpp"

#include <array>

#include <caf/deep_to_string.hpp>
#include <caf/message.hpp>

namespace troupe {

namespace {
constexpr std::array<std::string_view, 26> names = {
    "none",        "invalid_request", "prompt_too_long", "unauthorized",
    "not_found",   "model_not_found", "request_timeout", "payload_too_large",
    "queue_full",  "slot_timeout",    "model_not_ready", "shutting_down",
    "cancelled",   "slow_reader",     "row_fault",       "step_fault",
    "device_lost", "out_of_memory",   "bad_model",       "unsupported_model",
    "bad_option",  "template_failed", "name_taken",      "no_workers",
    "unreachable", "internal"};
static_assert(names.size() == static_cast<size_t>(ec::internal) + 1);
} // namespace

std::string_view to_string_view(ec code) {
  auto i = static_cast<size_t>(code);
  return i < names.size() ? names[i] : "unknown";
}

std::string to_string(ec code) {
  return std::string{to_string_view(code)};
}

ec code_of(const caf::error& err) {
  if (!err)
    return ec::none;
  if (err.category() != caf::atom("troupe") || err.code() >= names.size())
    return ec::internal;
  return static_cast<ec>(err.code());
}

std::string text_of(const caf::error& err) {
  if (!err)
    return {};
  const auto& context = err.context();
  if (context.size() >= 1 && context.match_element<std::string>(0))
    return context.get_as<std::string>(0);
  if (err.category() == caf::atom("troupe"))
    return to_string(code_of(err));
  return caf::to_string(err);
}

} // namespace troupe
