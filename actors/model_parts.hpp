#pragma once

#include <string>

#include "troupe/actors/model.hpp"

/// The parts of a model actor, each in a source file of its own. Internal to the model actor.
namespace troupe {

// -- model.cpp: phases and what they mean for whoever waits ---------------------------------------

/// Copies and tokenizers are there.
void set_ready(model_ptr self);

/// The model fails: whoever waits for it hears this error, and so do the requests that no copy can
/// finish. It takes no new ones; those that a healthy copy runs are finished first.
void give_up(model_ptr self, caf::error err);

caf::error not_ready(const model_actor_state& state);

/// "model 'm'", or, where there may be several, "model 'm', copy 2".
std::string label_of(const model_actor_state& state, uint32_t copy);

// -- model_loading.cpp: plan, memory, tokenizers --------------------------------------------------

/// Starts the loader's thread and the clock of the loading timeout.
void begin_loading(model_ptr self);

/// The loader has put plan and tokenizer into `parts`: memory is reserved, then children are made.
void parts_ready(model_ptr self);
void parts_failed(model_ptr self, const caf::error& err);

/// True when `down` was about a tokenizer, which is replaced.
bool tokenizer_died(model_ptr self, const caf::down_msg& down);

/// Ends the children; the answer comes when the last one is gone and its memory given back.
caf::result<done_atom> unload_model(model_ptr self);

/// All children are told to end.
void dismiss_children(model_ptr self);

/// True when `down` was about a child whose end was waited for.
bool child_left(model_ptr self, const caf::down_msg& down);

// -- model_guests.cpp: requests in flight ---------------------------------------------------------

caf::result<request_actor> admit(model_ptr self, generation_request& request,
                                 const event_sink& sink);

/// A request has ended; true when `down` was about one.
bool guest_left(model_ptr self, const caf::down_msg& down);

/// The deadlines that have passed, and the batches of calls that have waited long enough.
void check_deadlines(model_ptr self);
void begin_all_calls(model_ptr self);

/// Ends all requests with this error.
void tell_guests(model_ptr self, const caf::error& err);

/// Requests of this copy go on at others that serve. @returns whether none is left with it.
bool move_guests(model_ptr self, uint32_t copy);

/// A copy that has just loaded takes over requests that wait at others, as many as it has room for.
void relieve_others(model_ptr self, model_copy& fresh);

/// Ends the requests of this copy with this error.
void tell_guests_of(model_ptr self, uint32_t copy, const caf::error& err);

caf::result<done_atom> drain(model_ptr self, uint32_t wait_ms);
void finish_drain(model_ptr self);
void drain_timed_out(model_ptr self);

// -- model_copies.cpp: how many copies there are --------------------------------------------------

/// Sets up the places, and starts the copies that there are to be from the beginning.
void begin_copies(model_ptr self);

caf::result<model_status> scale_copies(model_ptr self, registration& as);

/// One more copy is planned, or will not be; who asked for it hears once all are.
void settle_scalings(model_ptr self, uint32_t id, const caf::error& problem);

/// @param all_at_once Otherwise one, and the next one when it has loaded.
void start_missing(model_ptr self, bool all_at_once);

/// Copies beyond what is wanted leave, but never the last one that serves before another one does.
void retire_surplus(model_ptr self);

/// Its children end, and then it does, so that its memory is given back.
void unload_copy(model_ptr self, model_copy& copy);

/// All copies have their hands full, so one more is started where the numbers allow it.
void grow(model_ptr self);

/// A copy has one request less; it may have been the last one.
void copy_rests(model_ptr self, model_copy& copy);

/// A message for each rest, none while everyone is busy: no timer keeps a test or an end waiting.
void await_end_of_rest(model_ptr self, model_copy& copy);

/// Copies beyond the minimum that had nothing to do for long enough end.
void end_idle_copies(model_ptr self);

/// Requests that leaving copies should have finished by now go elsewhere.
void hurry_leaving_copies(model_ptr self);

uint32_t count_at(const model_actor_state& state, size_t place);
size_t count_serving(const model_actor_state& state);

/// Whether every copy that is wanted takes requests.
bool all_serve(const model_actor_state& state);

// -- model_losses.cpp: how copies fare ------------------------------------------------------------

/// A copy tells how it stands.
void take_report(model_ptr self, replica_report& report);

/// True when `down` was about a copy.
bool copy_died(model_ptr self, const caf::down_msg& down);

/// Starts what is missing; after a copy has died of itself.
void restart_copies(model_ptr self);

// -- model_status.cpp: what is shown, and what needs no scheduler ---------------------------------

model_status describe(const model_actor_state& state);

/// As above, with what the schedulers say of running requests.
caf::result<model_status> report(model_ptr self);

/// Shows as many workers as the minimum, and one at least, where copies share weights and threads.
void staff_cpu(model_actor_state& state);

int64_t milliseconds_now();

caf::result<tokenize_answer> tokenize(model_ptr self, tokenize_request& request);
caf::result<std::string> detokenize(model_ptr self, detokenize_request& request);

} // namespace troupe
