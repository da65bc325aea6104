#include <algorithm>
#include <utility>

#include "troupe/actors/supervisor_parts.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

/// Asks several actors and delivers once all have answered; CAF 0.17 has no gathering of its own.
template <class T>
struct gathering {
  size_t missing = 0;
  std::vector<T> answers;
  caf::typed_response_promise<std::vector<T>> promise;
};

} // namespace

model_status describe_absent(const supervised_model& entry) {
  model_status s;
  s.name = entry.spec.name;
  s.folder = entry.spec.load.folder;
  s.state = entry.stopped ? model_state::stopped : model_state::failed;
  s.problem = entry.problem;
  s.registered = entry.spec.registered;
  s.queue_limit = entry.spec.queue_limit;
  for (size_t i = 0; i < std::max<size_t>(entry.groups.size(), 1); ++i) {
    const auto numbers = workers_on(s.registered, entry.groups, i);
    worker_group group;
    group.device = numbers.device;
    if (!entry.groups.empty())
      group.devices = entry.groups[i];
    group.min_workers = numbers.min;
    group.max_workers = numbers.max;
    s.groups.push_back(std::move(group));
  }
  return s;
}

void report_to(supervisor_ptr self, const std::vector<uint64_t>& serials,
               caf::typed_response_promise<std::vector<model_status>> promise) {
  auto& state = self->state;
  auto gathered = std::make_shared<gathering<model_status>>();
  gathered->promise = std::move(promise);
  gathered->answers.reserve(serials.size());
  gathered->missing = 1;
  auto one_less = [gathered] {
    if (--gathered->missing == 0)
      gathered->promise.deliver(std::move(gathered->answers));
  };
  for (auto serial : serials) {
    auto* entry = find(state, serial);
    if (!entry)
      continue;
    auto place = gathered->answers.size();
    gathered->answers.push_back(describe_absent(*entry));
    if (!entry->actor || entry->stopped)
      continue;
    ++gathered->missing;
    state.metrics->sent(actor_kind::model);
    self->request(entry->actor, caf::infinite, status_atom_v)
        .then(
            [=](model_status& status) {
              gathered->answers[place] = std::move(status);
              one_less();
            },
            [=](const caf::error& err) {
              gathered->answers[place].problem = caf::to_string(err);
              one_less();
            });
  }
  one_less();
}

caf::result<std::vector<model_status>> report_all(supervisor_ptr self) {
  std::vector<uint64_t> serials;
  for (const auto& [key, entry] : self->state.models)
    serials.push_back(entry.serial);
  auto promise = self->make_response_promise<std::vector<model_status>>();
  report_to(self, serials, promise);
  return promise;
}

} // namespace troupe
