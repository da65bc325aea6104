#include "troupe/actors/model_workers.hpp"

#include <algorithm>
#include <chrono>

#include <malloc.h>

#include "troupe/actors/model_loading.hpp"

namespace troupe {

worker_group describe_workers(const model_actor_state& state) {
  worker_group group;
  if (state.parts && !state.parts->plan.devices.empty())
    group.device = state.parts->plan.devices.front();
  group.min_workers = state.spec.registered.min_workers;
  group.max_workers = state.spec.registered.max_workers;
  group.workers = state.workers;
  for (auto& worker : group.workers)
    worker.ready = state.phase != model_state::draining;
  return group;
}

void staff_workers(model_actor_state& state) {
  using namespace std::chrono;
  auto now = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  auto wanted = std::max(1u, state.spec.registered.min_workers);
  while (state.workers.size() > wanted)
    state.workers.pop_back();
  while (state.workers.size() < wanted)
    state.workers.push_back({++state.workers_made, now, true});
}

void scale_workers(model_actor_state& state, uint32_t min, uint32_t max) {
  state.spec.registered.min_workers = min;
  state.spec.registered.max_workers = max;
  if (!state.workers.empty())
    staff_workers(state);
}

namespace {

void finish_unload(model_ptr self) {
  auto& state = self->state;
  if (!state.leaving.empty() || state.unload_waiters.empty())
    return;
  // What the allocator keeps in its pools is memory that another model could have.
  if (state.factories.detached)
    malloc_trim(0);
  for (auto& waiter : std::exchange(state.unload_waiters, {}))
    waiter.deliver(done_atom_v);
}

} // namespace

caf::result<done_atom> unload_model(model_ptr self) {
  auto& state = self->state;
  auto promise = self->make_response_promise<done_atom>();
  state.unload_waiters.push_back(promise);
  state.phase = model_state::failed;
  state.problem = "it was unloaded";
  auto err = caf::make_error(ec::cancelled,
                             "model '" + state.spec.name + "' was unloaded while it was loading");
  for (auto& waiter : std::exchange(state.load_waiters, {}))
    waiter.deliver(err);
  tell_guests(self, drain_cut_short(state.spec.name));
  auto leaves = [&](const auto& child) {
    if (child)
      state.leaving.insert(child.id());
  };
  leaves(state.scheduler);
  for (const auto& shard : state.shards)
    leaves(shard.actor);
  for (const auto& member : state.tokenizers)
    leaves(member.actor);
  dismiss_children(state);
  state.workers.clear();
  finish_unload(self);
  return promise;
}

bool child_left(model_ptr self, const caf::down_msg& down) {
  if (self->state.leaving.erase(down.source.id()) == 0)
    return false;
  finish_unload(self);
  return true;
}

} // namespace troupe
