#pragma once

#include "troupe/actors/model.hpp"

/// A model's workers, and how it gives back what it holds. Part of the model actor's behaviour.
namespace troupe {

worker_group describe_workers(const model_actor_state& state);

/// Makes the workers as many as the minimum, and one at least: on one device they share weights and
/// threads, so that more would change what is shown and nothing else.
void staff_workers(model_actor_state& state);

/// Other numbers of workers; none before the model is ready.
void scale_workers(model_actor_state& state, uint32_t min, uint32_t max);

/// Ends the children; the answer comes when the last one is gone and its memory given back.
caf::result<done_atom> unload_model(model_ptr self);

/// True when `down` was about a child whose end was waited for.
bool child_left(model_ptr self, const caf::down_msg& down);

} // namespace troupe
