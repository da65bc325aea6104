#include "troupe/actors/request_answer.hpp"

#include <algorithm>

#include "troupe/actors/answer_watch.hpp"
#include "troupe/actors/request_plan.hpp"
#include "troupe/actors/request_sequences.hpp"
#include "troupe/actors/request_trace.hpp"
#include "troupe/actors/telemetry/log.hpp"

namespace troupe {

namespace {

telemetry::outcome outcome_of(finish_reason reason) {
  switch (reason) {
  case finish_reason::eos_token:
    return telemetry::outcome::eos_token;
  case finish_reason::stop_sequence:
    return telemetry::outcome::stop_sequence;
  case finish_reason::length:
    return telemetry::outcome::length;
  default:
    return telemetry::outcome::failed;
  }
}

telemetry::outcome outcome_of(const caf::error& err) {
  switch (code_of(err)) {
  case ec::cancelled:
  case ec::slow_reader:
    return telemetry::outcome::cancelled;
  case ec::queue_full:
  case ec::model_not_ready:
  case ec::shutting_down:
    return telemetry::outcome::refused;
  case ec::invalid_request:
  case ec::prompt_too_long:
  case ec::template_failed:
    return telemetry::outcome::invalid;
  case ec::request_timeout:
  case ec::slot_timeout:
    return telemetry::outcome::timeout;
  default:
    return telemetry::outcome::failed;
  }
}

/// Ends at once. Whoever was monitored outlives many requests and would keep a note of each.
void leave(request_ptr self) {
  self->demonitor(self->state.owner);
  self->demonitor(self->state.sink.address());
  self->quit();
}

/// Adds the time until its end to what a request's text takes, where requests are summed up.
class text_timer {
public:
  explicit text_timer(request_state& state) : to_(state.env->window ? &state : nullptr) {
    if (to_)
      begin_ = std::chrono::steady_clock::now();
  }
  ~text_timer() {
    if (to_)
      to_->text_time += std::chrono::steady_clock::now() - begin_;
  }
  text_timer(const text_timer&) = delete;
  text_timer& operator=(const text_timer&) = delete;

private:
  request_state* to_;
  std::chrono::steady_clock::time_point begin_;
};

void sum_up(const request_state& state) {
  telemetry::request_sample sample;
  sample.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - state.arrived).count();
  for (const auto& branch : state.branches)
    sample.tokens += branch.text.generated_tokens();
  sample.batch = std::max<int64_t>(state.env->numbers->running.value(), 1);
  auto seconds = [](auto time) {
    return std::max(std::chrono::duration<double>(time).count(), 0.0);
  };
  sample.preparing = seconds(state.submitted - state.arrived);
  sample.computing =
      seconds(state.last_token - state.submitted - std::chrono::microseconds{state.waited_us});
  sample.writing = seconds(state.text_time);
  state.env->window->add(sample);
}

void deliver(request_ptr self) {
  auto& state = self->state;
  state.out.weight = weigh(state.out);
  state.outstanding += state.out.weight;
  self->send(state.sink, std::move(state.out));
  state.out = {};
}

void park(request_ptr self) {
  auto& state = self->state;
  state.parked = true;
  state.last_credit = self->clock().now();
  for (auto& branch : state.branches)
    if (branch.live && !branch.text.ended())
      tell_scheduler(self, park_atom_v, branch.sequence);
  if (state.request.read_timeout_ms > 0 && !std::exchange(state.reading_timer, true))
    self->delayed_send(self, std::chrono::milliseconds{state.request.read_timeout_ms},
                       timeout_atom_v, static_cast<uint32_t>(request_timer::reading));
}

/// Puts all choices of a collected answer into the events.
void gather_choices(request_state& state) {
  text_timer timer{state};
  auto& branches = state.branches;
  // Only a choice of the best is ranked: otherwise choice i is the sequence that streams as
  // choice i.
  if (state.request.params.best_of > state.request.params.n)
    std::stable_sort(branches.begin(), branches.end(), [](const auto& a, const auto& b) {
      return a.text.cumulative_logprob() > b.text.cumulative_logprob();
    });
  for (uint32_t i = 0; i < state.request.params.n; ++i) {
    for (auto& event : branches[i].kept) {
      event.choice = i;
      state.out.tokens.push_back(std::move(event));
    }
    auto end = branches[i].text.close();
    end.choice = i;
    state.out.ends.push_back(std::move(end));
  }
}

/// Closes all choices and tells what a stream has not told already: everything, if collected.
void complete(request_ptr self) {
  auto& state = self->state;
  auto reason = state.branches.front().text.reason();
  if (!state.request.params.stream) {
    gather_choices(state);
    reason = state.out.ends.front().reason;
  }
  state.out.complete = true;
  deliver(self);
  if (telemetry::logs(telemetry::log_level::debug))
    telemetry::log(telemetry::log_level::debug, state.request.id,
                   "completed: " + std::string{to_string_view(reason)});
  wind_up(self, outcome_of(reason));
}

/// Sends what the handler has gathered, as far as the receiver may have it.
void flush(request_ptr self) {
  auto& state = self->state;
  if (state.over)
    return;
  if (state.open == 0)
    return complete(self);
  if (!state.request.params.stream || !state.prompt_told ||
      (state.out.prompt.empty() && state.out.tokens.empty() && state.out.ends.empty()))
    return;
  deliver(self);
  if (!state.parked && state.outstanding > initial_credit)
    park(self);
}

void close_branch(request_ptr self, request_branch& branch) {
  auto& state = self->state;
  --state.open;
  if (state.request.params.stream)
    state.out.ends.push_back(branch.text.close());
}

request_branch* branch_of(request_ptr self, sequence_id id) {
  for (auto& branch : self->state.branches)
    if (branch.admitted && branch.sequence == id)
      return &branch;
  return nullptr;
}

/// Who an output of a sequence is for. A search's outputs are all of one sequence, the one that the
/// first branch has at the scheduler.
request_branch* branch_of(request_ptr self, const token_batch& batch) {
  auto* branch = branch_of(self, batch.sequence);
  auto& branches = self->state.branches;
  if (branch == nullptr || self->state.request.params.search.kind == search_kind::none)
    return branch;
  return batch.output < branches.size() ? &branches[batch.output] : nullptr;
}

/// A search that found fewer sequences than it was asked for answers with those; what it found ends
/// with it.
void close_search(request_ptr self, finish_reason reason) {
  auto& state = self->state;
  auto& branches = state.branches;
  while (branches.size() > 1 && branches.back().text.generated_tokens() == 0) {
    branches.pop_back();
    --state.open;
  }
  for (auto& branch : branches)
    if (!branch.text.ended()) {
      branch.text.end(reason);
      close_branch(self, branch);
    }
  auto& params = state.request.params;
  params.n = params.best_of = static_cast<uint32_t>(branches.size());
}

/// The prompt's event goes before the first token. Where log-probabilities of the prompt are
/// wanted, only the first choice's sequence brings them, and tokens of the others wait for it in
/// `out`.
void tell_prompt(request_ptr self, const request_branch& branch, const token_batch& batch) {
  auto& state = self->state;
  const auto& params = state.request.params;
  if (state.prompt_told || (params.prompt_logprobs && branch.text.index() != 0))
    return;
  state.prompt_told = true;
  auto event = describe_prompt(params, *state.env->tools->tok, state.prompt, batch.tokens.front());
  event.cached_tokens = batch.cached_tokens;
  state.env->numbers->cached_tokens.add(batch.cached_tokens);
  state.out.prompt.push_back(std::move(event));
  if (!params.prompt_logprobs && !state.env->several_copies)
    state.prompt = {};
}

void add_tokens(request_ptr self, request_branch& branch, const token_batch& batch) {
  auto& state = self->state;
  if (state.env->window)
    state.last_token = std::chrono::steady_clock::now();
  text_timer timer{state};
  auto& events = state.request.params.stream ? state.out.tokens : branch.kept;
  for (const auto& row : batch.tokens) {
    if (branch.known > 0) {
      --branch.known;
      continue;
    }
    events.push_back(branch.text.add(row));
    state.env->numbers->generated_tokens.add();
    if (state.env->several_copies)
      branch.drawn.push_back(row.token);
    if (!branch.text.ended())
      continue;
    // A stop string is known only here; the scheduler sees by itself that the others end.
    if (branch.text.found_stop())
      give_back(self, branch);
    close_branch(self, branch);
    break;
  }
}

} // namespace

void wind_up(request_ptr self, telemetry::outcome how) {
  auto& state = self->state;
  state.over = true;
  for (auto& branch : state.branches)
    if (!branch.text.ended())
      give_back(self, branch);
  state.env->numbers->ended(how).add();
  state.env->numbers->request_time.observe(
      std::chrono::duration<double>(std::chrono::steady_clock::now() - state.arrived).count());
  if (state.env->window && how <= telemetry::outcome::stop_sequence)
    sum_up(state);
  if (telemetry::traces().on())
    record_trace(state, how);
  leave_when_settled(self);
}

void resume(request_ptr self) {
  auto& state = self->state;
  state.parked = false;
  for (auto& branch : state.branches)
    if (branch.live && !branch.text.ended())
      tell_scheduler(self, resume_atom_v, branch.sequence);
}

void take_tokens(request_ptr self, token_batch& batch) {
  auto& state = self->state;
  auto* branch = branch_of(self, batch);
  // Surplus of a sequence that ended here already, or of a request that did.
  if (state.over || branch == nullptr || branch->text.ended() || batch.tokens.empty())
    return;
  auto& numbers = *state.env->numbers;
  if (!std::exchange(state.drawn, true)) {
    state.first_token = std::chrono::steady_clock::now();
    state.waited_us = batch.waited_us;
    state.cached_tokens = batch.cached_tokens;
    numbers.time_to_first_token.observe(
        std::chrono::duration<double>(state.first_token - state.arrived).count());
  }
  tell_prompt(self, *branch, batch);
  add_tokens(self, *branch, batch);
  flush(self);
}

void sequence_ended(request_ptr self, sequence_id id, sequence_end how) {
  auto& state = self->state;
  auto* branch = branch_of(self, id);
  if (branch == nullptr)
    return;
  branch->live = false;
  if (state.over)
    return leave_when_settled(self);
  const auto reason =
      how == sequence_end::length ? finish_reason::length : finish_reason::eos_token;
  if (state.request.params.search.kind != search_kind::none)
    close_search(self, reason);
  if (!branch->text.ended()) {
    branch->text.end(reason);
    close_branch(self, *branch);
  }
  flush(self);
}

void sequence_failed(request_ptr self, sequence_id id, const caf::error& err) {
  auto* branch = branch_of(self, id);
  if (branch == nullptr)
    return;
  branch->live = false;
  if (self->state.over)
    return leave_when_settled(self);
  if (!branch->text.ended())
    fail_request(self, typed(err, "the scheduler"));
}

void stop_generating(request_ptr self) {
  auto& state = self->state;
  if (state.over)
    return;
  // Only the search itself knows its beams; it ends with the round that is running.
  if (state.watch)
    return state.watch->time_is_up.store(true, std::memory_order_relaxed);
  for (auto& branch : state.branches)
    if (branch.admitted && !branch.text.ended()) {
      branch.text.end(finish_reason::length);
      give_back(self, branch);
      close_branch(self, branch);
    }
  flush(self);
}

void end_with(request_ptr self, const caf::error& err) {
  fail_request(self, err);
  leave(self);
}

caf::error typed(const caf::error& err, const std::string& what) {
  if (err.category() == caf::atom("troupe"))
    return err;
  return caf::make_error(ec::internal, what + " stopped unexpectedly (" + caf::to_string(err) +
                                           "); send the request again");
}

void leave_when_settled(request_ptr self) {
  auto& state = self->state;
  if (state.over && state.unanswered == 0 &&
      std::none_of(state.branches.begin(), state.branches.end(),
                   [](const auto& branch) { return branch.live; }))
    leave(self);
}

void fail_request(request_ptr self, caf::error err) {
  auto& state = self->state;
  if (state.over)
    return;
  auto how = outcome_of(err);
  auto level =
      how == telemetry::outcome::failed ? telemetry::log_level::error : telemetry::log_level::info;
  if (telemetry::logs(level))
    telemetry::log(level, state.request.id, text_of(err));
  // A stream has shown what came before; in a collected answer an error leaves no use for it.
  state.out = {};
  state.out.failure = std::move(err);
  deliver(self);
  wind_up(self, how);
}

} // namespace troupe
