#include "troupe/runtime/embed.hpp"

#include "troupe/actors/engine.hpp"

namespace troupe {

caf::actor_system_config& configure(caf::actor_system_config& config) {
  config.add_message_types<caf::id_block::troupe>();
  config.add_error_category(caf::atom("troupe"), [](uint8_t code, caf::atom_value, const caf::message& context) {
    auto text = to_string(static_cast<ec>(code));
    if (context.match_elements<std::string>())
      text += ": " + context.get_as<std::string>(0);
    return text;
  });
  return config;
}

engine_actor start_engine(caf::actor_system& system, telemetry::metrics_ptr metrics) {
  return spawn_engine(system, metrics ? std::move(metrics) : std::make_shared<telemetry::metrics>());
}

} // namespace troupe
