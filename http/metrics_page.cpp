#include <iterator>

#include "troupe/http/router.hpp"

namespace troupe::http {

reply metrics_reply(const front_state& state, const std::vector<device_memory>& devices,
                    const std::vector<std::string>& only) {
  auto families = front_families(state.counters, state.facts);
  auto add = [&](std::vector<telemetry::family> more) {
    families.insert(families.end(), std::make_move_iterator(more.begin()),
                    std::make_move_iterator(more.end()));
  };
  add(device_families(devices, state.facts));
  if (state.metrics) {
    auto engine = state.metrics->snapshot();
    add(derived_families(engine));
    add(std::move(engine));
  }
  reply out;
  out.content_type = "text/plain; version=0.0.4; charset=utf-8";
  out.body = prometheus_text(families, only);
  return out;
}

} // namespace troupe::http
