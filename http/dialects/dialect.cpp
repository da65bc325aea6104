#include "troupe/http/dialects/dialect.hpp"

#include <chrono>
#include <random>

namespace troupe::http {

std::string named_model(const job_context& context, std::string_view in_body) {
  bool placeholder = in_body == "tgi" || in_body == "dummy";
  return context.v1_route && context.model.empty() && !placeholder ? std::string{in_body}
                                                                   : context.model;
}

generation_request make_request(const job_context& context) {
  generation_request out;
  out.id = context.id;
  out.model = context.model;
  out.version = context.version;
  out.priority = context.priority;
  out.params.stop = context.settings.stop_sequences;
  out.slot_timeout_ms = context.settings.slot_timeout_ms;
  out.deadline_ms = context.settings.deadline_ms;
  out.read_timeout_ms = context.settings.read_timeout_ms;
  return out;
}

uint64_t fresh_seed() {
  thread_local std::mt19937_64 generator{[] {
    std::random_device device;
    return (uint64_t{device()} << 32) ^ device();
  }()};
  return generator();
}

std::string answer_id(std::string_view prefix) {
  constexpr char hex[] = "0123456789abcdef";
  std::string out{prefix};
  for (int word = 0; word < 2; ++word) {
    auto bits = fresh_seed();
    for (int i = 0; i < 12; ++i, bits >>= 4)
      out += hex[bits & 15];
  }
  return out;
}

int64_t unix_time() {
  using namespace std::chrono;
  return duration_cast<seconds>(system_clock::now().time_since_epoch()).count();
}

} // namespace troupe::http
