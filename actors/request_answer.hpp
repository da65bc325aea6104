#pragma once

#include "troupe/actors/request.hpp"

/// The part of a request actor that makes events of its sequences' tokens and ends. Internal to the
/// request actor.
namespace troupe {

/// Tokens of one of its sequences.
void take_tokens(request_ptr self, token_batch& batch);

/// The scheduler has taken a sequence back: it is complete, or cannot be computed.
void sequence_ended(request_ptr self, sequence_id id, sequence_end how);
void sequence_failed(request_ptr self, sequence_id id, const caf::error& err);

/// max_time is over: what has been generated is the answer.
void stop_generating(request_ptr self);

/// The receiver has read enough for the sequences to go on.
void resume(request_ptr self);

/// Nothing more will be told.
void wind_up(request_ptr self, telemetry::outcome how);

/// The one terminal event of a request that went wrong.
void fail_request(request_ptr self, caf::error err);

/// The model ends it, whatever it was doing or waiting for.
void end_with(request_ptr self, const caf::error& err);

/// Ends once the scheduler has confirmed all ends, so that no message arrives at nobody (mailbox
/// depths are counted) and the model knows the slots to be free.
void leave_when_settled(request_ptr self);

/// An error of CAF's own (a dead receiver, an exception) becomes one of ours, so that every client
/// gets a typed one.
caf::error typed(const caf::error& err, const std::string& what);

} // namespace troupe
