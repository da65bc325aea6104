#pragma once

#include <caf/all.hpp>

#include "troupe/actors/interfaces.hpp"

namespace troupe {

/// An engine as other processes may see it: asks `engine` for whatever concerns requests (submit,
/// tokenize, detokenize, status), and refuses to load, unload or drain (ec::unauthorized). Exit
/// messages are ignored, except for CAF's `kill`, which ends this actor and not the engine. Answers
/// come from this actor, so that no peer learns of the actors behind it but of the requests that it
/// made. Ends with the engine, which it keeps alive until `stop_engine`.
engine_actor spawn_published_engine(caf::actor_system& system, const engine_actor& engine);

struct published_engine_state {
  static constexpr const char* name = "published_engine";
  engine_actor engine;
};

using published_engine_ptr = engine_actor::stateful_pointer<published_engine_state>;

engine_actor::behavior_type published_engine(published_engine_ptr self, engine_actor engine);

} // namespace troupe
