#include <memory>
#include <optional>
#include <utility>

#include "troupe/actors/supervisor_parts.hpp"

namespace troupe {

namespace {

using telemetry::actor_kind;

/// What is to become of each version that a scaling is about.
using scaling_plan = std::vector<std::pair<uint64_t, registration>>;

caf::expected<scaling_plan> plan_scaling(supervisor_state& state, const worker_scaling& wanted,
                                         const std::vector<uint64_t>& serials) {
  scaling_plan plan;
  for (auto serial : serials) {
    const auto& entry = *find(state, serial);
    if (entry.leaving || !(entry.stopped || (entry.actor && entry.ready)))
      return caf::make_error(ec::model_not_ready,
                             "Model or workflow is not ready: " + label_of(entry.spec));
    auto as = scaled(entry.spec.registered, wanted, entry.groups);
    if (!as)
      return std::move(as.error());
    plan.emplace_back(serial, std::move(*as));
  }
  return plan;
}

/// Answers with the status of all of them once each has done its part.
class scaling_answer {
public:
  scaling_answer(supervisor_ptr self, std::vector<uint64_t> serials)
      : self_(self), serials_(std::move(serials)), missing_(serials_.size()),
        promise_(self->make_response_promise<std::vector<model_status>>()) {}

  const auto& promise() const { return promise_; }

  void one_less(const caf::error& err) {
    if (err)
      problem_ = err;
    if (--missing_ > 0)
      return;
    if (problem_)
      promise_.deliver(problem_);
    else
      report_to(self_, serials_, promise_);
  }

private:
  supervisor_ptr self_;
  std::vector<uint64_t> serials_;
  size_t missing_;
  caf::typed_response_promise<std::vector<model_status>> promise_;
  caf::error problem_;
};

/// A model that could not be scaled says what its numbers are.
void take_back(supervisor_ptr self, uint64_t serial) {
  auto* entry = find(self->state, serial);
  if (!entry || !entry->actor)
    return;
  self->state.metrics->sent(actor_kind::model);
  self->request(entry->actor, caf::infinite, status_atom_v)
      .then(
          [=](const model_status& status) {
            if (auto* scaled = find(self->state, serial))
              scaled->spec.registered = status.registered;
          },
          [](const caf::error&) {});
}

void scale_one(supervisor_ptr self, supervised_model& entry, const registration& as,
               const std::shared_ptr<scaling_answer>& answer) {
  const bool any = any_workers(as, entry.groups);
  auto done = [=](const caf::error& err) { answer->one_less(err); };
  if (!any) {
    entry.spec.registered = as;
    return entry.stopped ? done({}) : stop(self, entry, [=] { done({}); });
  }
  self->state.metrics->sent(actor_kind::model);
  if (entry.stopped) {
    entry.spec.registered = as;
    entry.stopped = false;
    launch(self, entry);
    self->request(entry.actor, caf::infinite, load_atom_v)
        .then([=](const model_status&) { done({}); }, done);
    return;
  }
  // The next scaling may come before the answer and is to start from these.
  entry.spec.registered = as;
  self->request(entry.actor, caf::infinite, scale_atom_v, as)
      .then([=](const model_status&) { done({}); },
            [=, serial = entry.serial](const caf::error& err) {
              take_back(self, serial);
              done(err);
            });
}

} // namespace

caf::result<std::vector<model_status>> scale(supervisor_ptr self, const worker_scaling& wanted) {
  auto version = wanted.version.empty() ? std::nullopt : std::optional{wanted.version};
  auto serials = select(self->state, wanted.model, version);
  if (serials.empty())
    return caf::make_error(ec::model_not_found, "Model or workflow not found: " +
                                                    label_of(wanted.model, wanted.version));
  auto plan = plan_scaling(self->state, wanted, serials);
  if (!plan)
    return std::move(plan.error());
  auto answer = std::make_shared<scaling_answer>(self, std::move(serials));
  auto promise = answer->promise();
  for (const auto& [serial, as] : *plan)
    scale_one(self, *find(self->state, serial), as, answer);
  return promise;
}

} // namespace troupe
