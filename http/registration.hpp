#pragma once

#include <functional>
#include <memory>

#include <caf/expected.hpp>
#include <caf/fwd.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/config/model_request.hpp"
#include "troupe/http/router.hpp"

namespace troupe::http {

/// What becomes of a model that cannot be prepared or loaded: `forget` takes it out again, `list`
/// keeps it, so that its status tells why.
enum class on_failure : uint8_t { forget, list };

using registration_answer = std::function<void(caf::expected<model_status>)>;

/// Enters a model into the catalogue at once, prepares it on a thread of its own, and has the
/// engine load it. Any thread; returns at once. Errors: ec::name_taken, and then `answer` is not
/// called.
/// @param answer Called once, from some other thread. Errors: ec::cancelled (unregistered
/// meanwhile), and those of `model_source` and of the engine's load.
caf::error register_model(caf::actor_system& system, engine_actor engine,
                          std::shared_ptr<front_state> state, config::model_request wanted,
                          on_failure failure, registration_answer answer);

/// Has the engine unload a version of a model, or all, and takes them out of the catalogue.
/// Errors: ec::model_not_found.
void unregister_model(caf::actor_system& system, engine_actor engine,
                      std::shared_ptr<front_state> state, unregistration_request wanted,
                      std::function<void(caf::error)> answer);

} // namespace troupe::http
