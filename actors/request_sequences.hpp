#pragma once

#include <utility>

#include "troupe/actors/request.hpp"

/// The part of a request actor that deals with its scheduler. Internal to the request actor.
namespace troupe {

template <class... Ts>
void tell_scheduler(request_ptr self, Ts&&... xs) {
  self->state.env->metrics->sent(telemetry::actor_kind::scheduler);
  self->send(self->state.scheduler, std::forward<Ts>(xs)...);
}

/// Submits what the branches are to be: one sequence each, or one for all of a search.
void submit_branches(request_ptr self);

/// Hands a sequence back to the scheduler.
void give_back(request_ptr self, request_branch& branch);

/// Another copy's scheduler computes what is missing. Tokens so far go there as a part of the
/// prompt; a search begins anew, and what it repeats is not told twice.
void move_to(request_ptr self, scheduler_actor next);

} // namespace troupe
