#pragma once

#include <string>
#include <vector>

#include <caf/all.hpp>

#include "troupe/actors/generation.hpp"
#include "troupe/actors/scheduling/sequence.hpp"
#include "troupe/models/activation.hpp"
#include "troupe/models/step.hpp"

/// Every actor's typed interface. A request's way: engine -> model -> request -> tokenizer, then
/// request -> scheduler -> shards -> scheduler -> request -> sink. `inspect` overloads are in
/// actors/inspect.hpp, included at the end.
namespace troupe {

/// A text or chat for the tokenizer pool. Answered with the ids.
struct encode_job {
  prompt input;
  uint32_t truncate = 0;
  uint32_t context =
      0; ///< Text that cannot fit is refused before it is encoded (ec::prompt_too_long).
};

struct encoded_prompt {
  std::vector<int32_t> tokens;
  std::string text; ///< What was encoded (the rendered chat); empty for token prompts.
};

} // namespace troupe

// An atom's text has at most ten characters.
CAF_ADD_ATOM(troupe, troupe, tick_atom, "tick")
CAF_ADD_ATOM(troupe, troupe, submit_atom, "submit")
CAF_ADD_ATOM(troupe, troupe, finish_atom, "finish")
CAF_ADD_ATOM(troupe, troupe, park_atom, "park")
CAF_ADD_ATOM(troupe, troupe, resume_atom, "resume")
CAF_ADD_ATOM(troupe, troupe, cancel_atom, "cancel")
CAF_ADD_ATOM(troupe, troupe, credit_atom, "credit")
CAF_ADD_ATOM(troupe, troupe, done_atom, "done")
CAF_ADD_ATOM(troupe, troupe, void_atom, "void")
CAF_ADD_ATOM(troupe, troupe, fault_atom, "fault")
CAF_ADD_ATOM(troupe, troupe, lost_atom, "lost")
CAF_ADD_ATOM(troupe, troupe, wire_atom, "wire")
CAF_ADD_ATOM(troupe, troupe, loaded_atom, "loaded")
CAF_ADD_ATOM(troupe, troupe, progress_atom, "progress")
CAF_ADD_ATOM(troupe, troupe, timeout_atom, "timeout")
CAF_ADD_ATOM(troupe, troupe, load_atom, "load")
CAF_ADD_ATOM(troupe, troupe, unload_atom, "unload")
CAF_ADD_ATOM(troupe, troupe, status_atom, "status")
CAF_ADD_ATOM(troupe, troupe, drain_atom, "drain")
CAF_ADD_ATOM(troupe, troupe, reserve_atom, "reserve")
CAF_ADD_ATOM(troupe, troupe, route_atom, "route")
CAF_ADD_ATOM(troupe, troupe, collect_atom, "collect")
CAF_ADD_ATOM(troupe, troupe, landing_atom, "landing")
CAF_ADD_ATOM(troupe, troupe, scale_atom, "scale")
CAF_ADD_ATOM(troupe, troupe, idle_atom, "idle")

namespace troupe {

// -- a request and where its events go -----------------------------------------------------------

/// Receives a request's events; a relay of the front end, or any actor of a host application. Its
/// death cancels the request.
using event_sink = caf::typed_actor<
    // What happened since the last batch; the sink owes its sender (credit_atom, weight) once the
    // bytes have left.
    caf::reacts_to<event_batch>>;

/// Owns one request until its last byte: encoding, deadline, detokenizing, stop strings, usage.
/// Monitors its sink and its model; ends after `complete` or `failure` was delivered.
using request_actor = caf::typed_actor<
    // INTERNAL, sent by its model: go. Encoding starts, then the sequences are submitted.
    caf::reacts_to<submit_atom>,
    // From the scheduler: what a sequence produced.
    caf::reacts_to<token_batch>,
    // From the scheduler: the sequence has ended, and nothing about it follows.
    caf::reacts_to<done_atom, sequence_id, sequence_end>,
    // From the scheduler or the model: the sequence ended with an error.
    caf::reacts_to<fault_atom, sequence_id, caf::error>,
    // From the sink: so much weight has left; parked sequences resume.
    caf::reacts_to<credit_atom, uint32_t>,
    // From the sink or a user: nobody wants more. Frees slot and KV within one step.
    caf::reacts_to<cancel_atom>,
    // From its model: the drain begins. Ends with ec::shutting_down unless tokens have come
    // already.
    caf::reacts_to<drain_atom>,
    // From its model: ends with this error whatever it was doing.
    caf::reacts_to<drain_atom, caf::error>,
    // From its model: the copy that ran it is lost or leaves, and this is another one's scheduler.
    // What it has not got yet is computed there, tokens so far being part of the prompt.
    caf::reacts_to<wire_atom, caf::actor>,
    // INTERNAL: the deadline (kept by the model) or the read timeout has passed.
    caf::reacts_to<timeout_atom, uint32_t>>;

/// What the scheduler knows of a request.
using token_receiver = caf::typed_actor<caf::reacts_to<token_batch>,
                                        caf::reacts_to<done_atom, sequence_id, sequence_end>,
                                        caf::reacts_to<fault_atom, sequence_id, caf::error>>;

// -- a model and its children --------------------------------------------------------------------

/// Answers come in the order of the jobs; one of N detached actors.
using tokenizer_actor = caf::typed_actor<
    // Errors: ec::prompt_too_long, template_failed, invalid_request.
    caf::replies_to<encode_job>::with<encoded_prompt>,
    caf::replies_to<detokenize_request>::with<std::string>>;

/// Who a shard reports its loading to; every replica is one.
using shard_owner = caf::typed_actor<
    // The shard with this index holds its layers now.
    caf::reacts_to<loaded_atom, uint32_t>,
    // It could not be loaded, and has quit. Errors: those of its stage factory, ec::cancelled.
    caf::reacts_to<fault_atom, uint32_t, caf::error>,
    // While it loads: index, bytes done, bytes of all.
    caf::reacts_to<progress_atom, uint32_t, uint64_t, uint64_t>>;

/// Contiguous layers on one device, on a thread of its own. Pairs a step with the activation of the
/// same id in any order of arrival, and runs ids in order.
using shard_actor = caf::typed_actor<
    // From the scheduler, the same to every shard of the model.
    caf::reacts_to<step>,
    // From the shard before: its layers' output for that step.
    caf::reacts_to<epoch_id, step_id, models::activation>,
    // From the scheduler: the step failed somewhere; go on without it.
    caf::reacts_to<void_atom, epoch_id, step_id>,
    // From the model: a new epoch with this successor (null handle for the last shard), answering
    // to this scheduler. Whatever belongs to an older epoch is dropped.
    caf::reacts_to<wire_atom, epoch_id, caf::actor, caf::actor>,
    // From its own device: the step that was launched is over, its result can be had.
    caf::reacts_to<collect_atom, epoch_id, step_id>,
    // INTERNAL: time to look whether nothing was asked of it for a while.
    caf::reacts_to<idle_atom>>;

/// Collects ready sequences and drives the shards, as many steps at a time as there are shards; one
/// more where steps are scheduled ahead.
using scheduler_actor = caf::typed_actor<
    // Accepts a sequence; its tokens go to the receiver, after this answer. Errors: ec::queue_full,
    // invalid_request (can never fit the KV cache), shutting_down. A slot timeout arrives as fault.
    caf::replies_to<submit_atom, new_sequence, token_receiver>::with<sequence_id>,
    // A stop string was found, or nobody wants more. Unknown ids are ignored. Frees slot and blocks
    // as soon as no step in flight names them; confirmed to the receiver by done.
    caf::reacts_to<finish_atom, sequence_id>,
    // Keeps KV and slot but schedules no more of it / schedules it again.
    caf::reacts_to<park_atom, sequence_id>, caf::reacts_to<resume_atom, sequence_id>,
    // From the last shard.
    caf::reacts_to<step_result>,
    // From the last shard's device: a step is over, its result comes as soon as it is collected.
    caf::reacts_to<landing_atom, step_id>,
    // From a shard: that step failed there. Its rows are retried in halves.
    caf::reacts_to<fault_atom, epoch_id, step_id, caf::error>,
    // From the model: a shard died; everything running counts as preempted until new shards come.
    caf::reacts_to<lost_atom>,
    // From the model: shards in the order of their layers, alive and wired for this epoch.
    caf::reacts_to<wire_atom, epoch_id, std::vector<shard_actor>>,
    // From the model: ends every sequence with this error (drain timeout, model failed).
    caf::reacts_to<drain_atom, caf::error>, caf::replies_to<status_atom>::with<scheduler_load>,
    // INTERNAL: a waiting sequence's slot timeout has passed.
    caf::reacts_to<timeout_atom, sequence_id>,
    // INTERNAL: the device is about to be done with this step and needs the next.
    caf::reacts_to<timeout_atom, step_id>,
    // INTERNAL: starts steps with whatever arrived before this message.
    caf::reacts_to<tick_atom>>;

/// How a copy of a model stands.
enum class replica_phase : uint8_t {
  planning, ///< Memory is being looked for.
  loading,
  ready,
  lost,   ///< A shard or the scheduler died; no steps are made until it is loaded again.
  failed, ///< It could not be loaded, and ends.
};

/// What a copy tells its model whenever something changes.
struct replica_report {
  uint32_t replica = 0;
  replica_phase phase{};
  scheduler_actor
      scheduler;           ///< Null before it is planned, and where it was the scheduler that died.
  uint64_t bytes_done = 0; ///< Of loading.
  uint64_t bytes_total = 0;
  std::string who;    ///< Of its children, what was lost.
  caf::error problem; ///< Why it was lost or has failed.
};

/// Who a replica reports to; every model actor is one.
using replica_owner = caf::typed_actor<caf::reacts_to<replica_report>>;

/// One copy of a model: a scheduler and the shards it drives.
using replica_actor = caf::typed_actor<
    // From its model: the back-off is over, what is dead is to be loaded again.
    caf::reacts_to<load_atom>,
    // From its model, once no request is there any more: children end; answers when the last one is
    // gone and its memory given back, and ends.
    caf::replies_to<unload_atom>::with<done_atom>,
    // INTERNAL, from a shard: it holds its layers now (index), or it could not be loaded.
    caf::reacts_to<loaded_atom, uint32_t>, caf::reacts_to<fault_atom, uint32_t, caf::error>,
    // INTERNAL, from a shard while loading: index, bytes done, bytes of all.
    caf::reacts_to<progress_atom, uint32_t, uint64_t, uint64_t>,
    // INTERNAL, from its planner: the plan is ready (kept aside) or an error.
    caf::reacts_to<loaded_atom>, caf::reacts_to<fault_atom, caf::error>>;

/// One loaded model: its copies, its tokenizers; readiness; requests in flight.
using model_actor = caf::typed_actor<
    caf::replies_to<submit_atom, generation_request, event_sink>::with<request_actor>,
    caf::replies_to<tokenize_request>::with<tokenize_answer>,
    caf::replies_to<detokenize_request>::with<std::string>,
    caf::replies_to<status_atom>::with<model_status>,
    // Answers once the model is ready or has failed to become so. Errors as for engine's load.
    caf::replies_to<load_atom>::with<model_status>,
    caf::replies_to<drain_atom, uint32_t>::with<done_atom>,
    // From the supervisor, after a drain: children end; answers when the last one is gone and its
    // memory given back. Nothing but its end may follow.
    caf::replies_to<unload_atom>::with<done_atom>,
    // From the supervisor: the numbers of workers that the registration says from now on. Answers
    // when memory was found for all new copies; they load after that. Errors: ec::out_of_memory;
    // then the numbers stay as they were.
    caf::replies_to<scale_atom, registration>::with<model_status>,
    // INTERNAL, from a copy.
    caf::reacts_to<replica_report>,
    // INTERNAL, from the loader: the plan is ready (kept aside) or an error.
    caf::reacts_to<loaded_atom>, caf::reacts_to<fault_atom, caf::error>,
    // INTERNAL: the drain's or the loading's time is up, a deadline passed, a copy had nothing to
    // do.
    caf::reacts_to<timeout_atom, uint32_t>>;

/// Who serves a version of a model.
struct model_route {
  std::string name;
  std::string version;
  model_actor actor;                ///< Null: registered, but nobody serves it now.
  bool ready = false;               ///< It takes requests; otherwise it says why not.
  bool at_startup = true;           ///< registration::at_startup
  ec refusal = ec::model_not_ready; ///< Why there is no actor.
};

// -- the entrance -------------------------------------------------------------------------------

/// The entrance; publishable. Holds the models and routes to them.
using engine_actor = caf::typed_actor<
    // Admits a request: the answer is its request actor, events go to the sink. Errors:
    // ec::model_not_found, model_not_ready, queue_full, shutting_down, invalid_request.
    caf::replies_to<submit_atom, generation_request, event_sink>::with<request_actor>,
    // Errors: ec::model_not_found, model_not_ready, invalid_request, prompt_too_long,
    // template_failed.
    caf::replies_to<tokenize_request>::with<tokenize_answer>,
    caf::replies_to<detokenize_request>::with<std::string>,
    // Registers and loads a model; answers when it is ready. Errors: ec::bad_model,
    // unsupported_model, bad_option, out_of_memory, name_taken, cancelled (unloaded meanwhile).
    caf::replies_to<load_atom, model_spec>::with<model_status>,
    // Drains and forgets a model, all versions of it or exactly this one ("": the one without);
    // answers when its memory is given back. Errors: ec::model_not_found.
    caf::replies_to<unload_atom, std::string>::with<model_status>,
    caf::replies_to<unload_atom, std::string, std::string>::with<model_status>,
    // Changes the number of workers; answers when memory was found for new ones, which load then.
    // To none of them: drains, and gives the memory back. Errors: ec::model_not_found,
    // model_not_ready, bad_option (a device that it is not for), out_of_memory, those of loading.
    caf::replies_to<worker_scaling>::with<std::vector<model_status>>,
    // All models, by name and version.
    caf::replies_to<status_atom>::with<std::vector<model_status>>,
    // Refuses new requests, ends queued ones with ec::shutting_down, waits up to so many
    // milliseconds for running ones, then ends them too. Answers when none is left.
    caf::replies_to<drain_atom, uint32_t>::with<done_atom>,
    // INTERNAL, from the supervisor: who serves that version of that name now.
    caf::reacts_to<model_route>,
    // INTERNAL, from the supervisor: that name's version is forgotten.
    caf::reacts_to<route_atom, std::string, std::string>>;

/// The engine's registry: loads, restarts and drains models, and keeps one ledger of memory.
using supervisor_actor = caf::typed_actor<
    // As the engine's, which passes them on.
    caf::replies_to<load_atom, model_spec>::with<model_status>,
    caf::replies_to<unload_atom, std::string>::with<model_status>,
    caf::replies_to<unload_atom, std::string, std::string>::with<model_status>,
    caf::replies_to<worker_scaling>::with<std::vector<model_status>>,
    caf::replies_to<status_atom>::with<std::vector<model_status>>,
    caf::replies_to<drain_atom, uint32_t>::with<done_atom>,
    // From a model that is about to load: its label (label_of), bytes of weights, bytes of KV
    // cache. A model's reservation ends with the model. Errors: ec::out_of_memory.
    caf::replies_to<reserve_atom, std::string, uint64_t, uint64_t>::with<done_atom>,
    // INTERNAL: the back-off of the model with that serial number, which died, is over.
    caf::reacts_to<timeout_atom, uint64_t>>;

} // namespace troupe

CAF_BEGIN_TYPE_ID_BLOCK(troupe, 1200)
CAF_ADD_TYPE_ID(troupe, (troupe::step))
CAF_ADD_TYPE_ID(troupe, (troupe::step_result))
CAF_ADD_TYPE_ID(troupe, (troupe::step_id))
CAF_ADD_TYPE_ID(troupe, (troupe::epoch_id))
CAF_ADD_TYPE_ID(troupe, (troupe::sequence_id))
CAF_ADD_TYPE_ID(troupe, (troupe::models::activation))
CAF_ADD_TYPE_ID(troupe, (troupe::new_sequence))
CAF_ADD_TYPE_ID(troupe, (troupe::token_batch))
CAF_ADD_TYPE_ID(troupe, (troupe::sequence_end))
CAF_ADD_TYPE_ID(troupe, (troupe::scheduler_load))
CAF_ADD_TYPE_ID(troupe, (troupe::encode_job))
CAF_ADD_TYPE_ID(troupe, (troupe::encoded_prompt))
CAF_ADD_TYPE_ID(troupe, (troupe::generation_request))
CAF_ADD_TYPE_ID(troupe, (troupe::event_batch))
CAF_ADD_TYPE_ID(troupe, (troupe::tokenize_request))
CAF_ADD_TYPE_ID(troupe, (troupe::tokenize_answer))
CAF_ADD_TYPE_ID(troupe, (troupe::detokenize_request))
CAF_ADD_TYPE_ID(troupe, (troupe::model_spec))
CAF_ADD_TYPE_ID(troupe, (troupe::model_status))
CAF_ADD_TYPE_ID(troupe, (std::vector<troupe::model_status>))
CAF_ADD_TYPE_ID(troupe, (troupe::token_receiver))
CAF_ADD_TYPE_ID(troupe, (troupe::event_sink))
CAF_ADD_TYPE_ID(troupe, (troupe::request_actor))
CAF_ADD_TYPE_ID(troupe, (troupe::shard_actor))
CAF_ADD_TYPE_ID(troupe, (std::vector<troupe::shard_actor>))
CAF_ADD_TYPE_ID(troupe, (troupe::model_actor))
CAF_ADD_TYPE_ID(troupe, (troupe::worker_scaling))
CAF_ADD_TYPE_ID(troupe, (troupe::registration))
CAF_ADD_TYPE_ID(troupe, (troupe::replica_report))
CAF_ADD_TYPE_ID(troupe, (troupe::model_route))
CAF_END_TYPE_ID_BLOCK(troupe)

#include "troupe/actors/inspect.hpp" // IWYU pragma: export
