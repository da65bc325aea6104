#pragma once

#include <utility>

#include "troupe/actors/request.hpp"

/// The part of a request actor that deals with its scheduler; the rest is in request.cpp. Internal
/// to the request actor.
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

// In request.cpp:

/// The one terminal event of a request that went wrong.
void fail_request(request_ptr self, caf::error err);

/// Ends once the scheduler has confirmed all ends, so that no message arrives at nobody (mailbox
/// depths are counted) and the model knows the slots to be free.
void leave_when_settled(request_ptr self);

/// An error of CAF's own (a dead receiver, an exception) becomes one of ours, so that every client
/// gets a typed one.
caf::error typed(const caf::error& err, const std::string& what);

} // namespace troupe
