#include "troupe/actors/generation.hpp"

#include <string_view>

namespace troupe {

std::string_view to_string_view(finish_reason reason) {
  switch (reason) {
  case finish_reason::length:
    return "length";
  case finish_reason::eos_token:
    return "eos_token";
  case finish_reason::stop_sequence:
    return "stop_sequence";
  case finish_reason::error:
    return "error";
  case finish_reason::none:
    break;
  }
  return "none";
}

std::string_view to_string_view(model_state state) {
  switch (state) {
  case model_state::loading:
    return "loading";
  case model_state::ready:
    return "ready";
  case model_state::degraded:
    return "degraded";
  case model_state::reloading:
    return "reloading";
  case model_state::failed:
    return "failed";
  case model_state::draining:
    return "draining";
  case model_state::stopped:
    break;
  }
  return "stopped";
}

} // namespace troupe
