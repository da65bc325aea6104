#include "troupe/runtime/embed.hpp"

#include "troupe/actors/engine.hpp"

namespace troupe {

caf::actor_system_config& configure(caf::actor_system_config& config) {
  config.add_message_types<caf::id_block::troupe>();
  config.add_error_category(caf::atom("troupe"),
                            [](uint8_t code, caf::atom_value, const caf::message& context) {
                              auto text = to_string(static_cast<ec>(code));
                              if (context.match_elements<std::string>())
                                text += ": " + context.get_as<std::string>(0);
                              return text;
                            });
  return config;
}

engine_actor start_engine(caf::actor_system& system, telemetry::metrics_ptr metrics) {
  return spawn_engine(system,
                      metrics ? std::move(metrics) : std::make_shared<telemetry::metrics>());
}

caf::expected<model_status> load_model(caf::actor_system& system, const engine_actor& engine,
                                       const model_spec& spec) {
  caf::expected<model_status> result{caf::error{}};
  caf::scoped_actor self{system};
  self->request(engine, caf::infinite, load_atom_v, spec)
      .receive([&](model_status& status) { result = std::move(status); },
               [&](caf::error& why) { result = std::move(why); });
  return result;
}

caf::expected<model_status> load_model(caf::actor_system& system, const engine_actor& engine,
                                       const std::string& name, const std::string& folder) {
  model_spec spec;
  spec.name = name;
  spec.load.folder = folder;
  spec.load.dummy = folder.empty();
  return load_model(system, engine, spec);
}

} // namespace troupe
