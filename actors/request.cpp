#include "troupe/actors/request.hpp"

#include <algorithm>

#include "troupe/actors/answer_watch.hpp"
#include "troupe/actors/request_answer.hpp"
#include "troupe/actors/request_plan.hpp"
#include "troupe/actors/request_sequences.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

void submit_sequences(request_ptr self, std::vector<int32_t> tokens) {
  auto& state = self->state;
  const auto& env = *state.env;
  if (state.over)
    return;
  if (auto err = check_prompt(tokens, env.info))
    return fail_request(self, std::move(err));
  if (auto err = check_length(state.request.params, tokens.size()))
    return fail_request(self, std::move(err));
  const auto& params = state.request.params;
  const auto count = params.best_of;
  state.max_new_tokens = room_for(params, tokens.size(), env.info);
  auto rules = make_rules(params, env.tools->tok, env.info, state.max_new_tokens);
  env.numbers->prompt_tokens.add(tokens.size());
  state.prompt_tokens = static_cast<uint32_t>(tokens.size());
  state.submitted = std::chrono::steady_clock::now();
  state.prompt = std::move(tokens);
  state.open = count;
  state.branches.reserve(count);
  if (params.search.kind == search_kind::beams)
    state.watch = make_watch(params, env.tools->tok);
  if (params.max_time_ms > 0)
    self->delayed_send(self, std::chrono::milliseconds{params.max_time_ms}, timeout_atom_v,
                       static_cast<uint32_t>(request_timer::generation));
  for (uint32_t i = 0; i < count; ++i)
    state.branches.push_back({.text = choice{rules, i}, .kept = {}, .drawn = {}});
  submit_branches(self);
}

void encode(request_ptr self) {
  auto& state = self->state;
  const auto& env = *state.env;
  const auto& params = state.request.params;
  encode_job job{std::move(state.request.input), params.truncate, env.info.context};
  auto bytes = backlog_of(job);
  env.metrics->sent(actor_kind::tokenizer);
  self->request(env.pool->pick(bytes), caf::infinite, std::move(job))
      .then([=](encoded_prompt& answer) { submit_sequences(self, std::move(answer.tokens)); },
            [=](const caf::error& err) { fail_request(self, typed(err, "the tokenizer")); });
}

void begin(request_ptr self) {
  auto& state = self->state;
  if (state.over)
    return;
  if (auto err = check_request(state.request, state.env->info))
    return fail_request(self, std::move(err));
  const auto& input = state.request.input;
  // Ready token ids need no tokenizer, so they never queue behind a long text.
  if (input.kind == prompt_kind::tokens && input.cached_prefix.empty() &&
      state.request.params.truncate == 0)
    submit_sequences(self, std::move(state.request.input.tokens));
  else
    encode(self);
}

void credit(request_ptr self, uint32_t weight) {
  auto& state = self->state;
  state.outstanding -= std::min<uint64_t>(weight, state.outstanding);
  state.last_credit = self->clock().now();
  // Half the credit must be back first: a reader at the limit would park and resume for each event.
  if (!state.over && state.parked && state.outstanding <= initial_credit / 2)
    resume(self);
}

void reading_timer(request_ptr self) {
  auto& state = self->state;
  state.reading_timer = false;
  if (state.over || !state.parked)
    return;
  auto limit = std::chrono::milliseconds{state.request.read_timeout_ms};
  auto idle = self->clock().now() - state.last_credit;
  if (idle >= limit)
    return fail_request(
        self,
        caf::make_error(ec::slow_reader, "nothing was read for " + std::to_string(limit.count()) +
                                             " ms while " + std::to_string(state.outstanding) +
                                             " bytes were waiting (chunked_read_timeout)"));
  state.reading_timer = true;
  self->delayed_send(self,
                     std::chrono::duration_cast<std::chrono::milliseconds>(limit - idle) +
                         std::chrono::milliseconds{1},
                     timeout_atom_v, static_cast<uint32_t>(request_timer::reading));
}

void timed_out(request_ptr self, uint32_t which) {
  if (which == static_cast<uint32_t>(request_timer::reading))
    return reading_timer(self);
  if (which == static_cast<uint32_t>(request_timer::generation))
    return stop_generating(self);
  fail_request(self, caf::make_error(ec::request_timeout,
                                     "the request did not finish within its deadline of " +
                                         std::to_string(self->state.request.deadline_ms) + " ms"));
}

void drain(request_ptr self) {
  if (!self->state.drawn)
    fail_request(
        self, caf::make_error(ec::shutting_down,
                              std::string{"the server is shutting down and had not begun with this "
                                          "request: send it to another one"}));
}

void someone_died(request_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  if (down.source == state.sink.address()) {
    if (!state.over)
      wind_up(self, telemetry::outcome::cancelled);
    return;
  }
  if (down.reason == caf::exit_reason::user_shutdown)
    return end_with(
        self, caf::make_error(ec::shutting_down, "model '" + state.env->model +
                                                     "' was shut down while this request ran"));
  end_with(self, caf::make_error(ec::internal,
                                 "model '" + state.env->model + "' stopped unexpectedly (" +
                                     caf::to_string(down.reason) + "); send the request again"));
}

} // namespace

request_actor::behavior_type request_behavior(request_ptr self, request_environment_ptr env,
                                              caf::actor_addr owner, scheduler_actor scheduler,
                                              generation_request request, event_sink sink) {
  auto& state = self->state;
  state.env = std::move(env);
  state.owner = std::move(owner);
  state.scheduler = std::move(scheduler);
  state.request = std::move(request);
  state.sink = std::move(sink);
  self->monitor(state.owner);
  self->monitor(state.sink);
  self->set_down_handler([self](caf::down_msg& down) { someone_died(self, down); });
  // Whatever throws here (no memory, most likely) costs this request only, and its client hears.
  self->set_exception_handler([self](std::exception_ptr&) -> caf::error {
    fail_request(
        self, caf::make_error(ec::internal, std::string{"the request could not be processed: an "
                                                        "exception was thrown while handling it"}));
    // It has told its sink and the scheduler, so this is an end like others.
    return caf::none;
  });
  auto handled = [numbers = state.env->metrics] { numbers->handled(actor_kind::request); };
  auto crossed = [numbers = state.env->metrics] { numbers->crossed(actor_kind::request); };
  return {
      [=](submit_atom) {
        handled();
        begin(self);
      },
      [=](token_batch& batch) {
        handled();
        take_tokens(self, batch);
      },
      [=](done_atom, sequence_id id, sequence_end how) {
        handled();
        sequence_ended(self, id, how);
      },
      [=](fault_atom, sequence_id id, const caf::error& err) {
        handled();
        sequence_failed(self, id, err);
      },
      [=](credit_atom, uint32_t weight) {
        crossed();
        credit(self, weight);
      },
      [=](cancel_atom) {
        crossed();
        fail_request(self,
                     caf::make_error(ec::cancelled, std::string{"the request was cancelled"}));
      },
      [=](drain_atom) {
        crossed();
        drain(self);
      },
      [=](drain_atom, const caf::error& err) {
        crossed();
        end_with(self, err);
      },
      [=](wire_atom, const caf::actor& scheduler) {
        crossed();
        move_to(self, caf::actor_cast<scheduler_actor>(scheduler));
      },
      [=](timeout_atom, uint32_t which) { timed_out(self, which); },
  };
}

} // namespace troupe
