#include "troupe/actors/request_sequences.hpp"

#include "troupe/actors/request_answer.hpp"
#include "troupe/actors/request_plan.hpp"

namespace troupe {

namespace {

bool searches(const request_state& state) {
  return state.request.params.search.kind != search_kind::none;
}

void admitted(request_ptr self, size_t index, sequence_id id) {
  auto& state = self->state;
  auto& branch = state.branches[index];
  branch.sequence = id;
  branch.admitted = true;
  branch.live = true;
  if (state.over)
    give_back(self, branch);
  else if (state.parked)
    tell_scheduler(self, park_atom_v, id);
}

void refused(request_ptr self, const caf::error& err) {
  // Where there are several copies the model says what becomes of one that is gone.
  if (self->state.env->several_copies && err.category() != caf::atom("troupe"))
    return;
  fail_request(self, typed(err, "the scheduler"));
}

void submit(request_ptr self, size_t index) {
  auto& state = self->state;
  auto& branch = state.branches[index];
  branch.admitted = branch.live = branch.returned = false;
  auto sequence = make_sequence(state.request, state.env->info, state.prompt, state.max_new_tokens,
                                static_cast<uint32_t>(index));
  sequence.watch.shared = state.watch;
  if (searches(state)) {
    for (auto& one : state.branches)
      one.known = one.drawn.size();
  } else if (!branch.drawn.empty()) {
    sequence.prompt.insert(sequence.prompt.end(), branch.drawn.begin(), branch.drawn.end());
    sequence.generated = static_cast<uint32_t>(branch.drawn.size());
    sequence.wants.prompt_logprobs = false;
    sequence.slot_timeout_ms = 0; // It had a slot, and lost it through no fault of its own.
  }
  state.env->metrics->sent(telemetry::actor_kind::scheduler);
  ++state.unanswered;
  auto still_here = [self, move = state.moves] {
    --self->state.unanswered;
    return move == self->state.moves;
  };
  self->request(state.scheduler, caf::infinite, submit_atom_v, std::move(sequence),
                caf::actor_cast<token_receiver>(self))
      .then(
          [=, asked = state.scheduler](sequence_id id) {
            if (still_here())
              return admitted(self, index, id);
            self->state.env->metrics->sent(telemetry::actor_kind::scheduler);
            self->send(asked, finish_atom_v, id);
            leave_when_settled(self);
          },
          [=](const caf::error& err) {
            if (!still_here() || self->state.over)
              leave_when_settled(self);
            else
              refused(self, err);
          });
}

} // namespace

void submit_branches(request_ptr self) {
  auto& state = self->state;
  if (searches(state) && !state.branches.empty())
    return submit(self, 0);
  for (size_t i = 0; i < state.branches.size(); ++i)
    if (!state.branches[i].text.ended())
      submit(self, i);
}

void give_back(request_ptr self, request_branch& branch) {
  if (branch.live && !std::exchange(branch.returned, true))
    tell_scheduler(self, finish_atom_v, branch.sequence);
}

void move_to(request_ptr self, scheduler_actor next) {
  auto& state = self->state;
  for (auto& branch : state.branches) {
    give_back(self, branch);
    // Nothing of that sequence is waited for, because its scheduler may be gone.
    branch.admitted = branch.live = false;
  }
  ++state.moves;
  state.scheduler = std::move(next);
  if (state.over)
    leave_when_settled(self);
  else
    submit_branches(self);
}

} // namespace troupe
