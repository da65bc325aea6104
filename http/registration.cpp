#include "troupe/http/registration.hpp"

#include <chrono>

#include <caf/all.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/guarded.hpp"

namespace troupe::http {

namespace {

using telemetry::log_level;
using clock = std::chrono::steady_clock;

int64_t microseconds_since(clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - begin).count();
}

/// What one registration knows of itself.
struct registering {
  engine_actor engine;
  std::shared_ptr<front_state> state;
  config::model_request wanted;
  on_failure failure = on_failure::forget;
  registration_answer answer;
  uint64_t serial = 0;
  std::stop_token stop;
  clock::time_point begin = clock::now();
  int64_t prepared_after = 0; ///< Microseconds.
  caf::expected<prepared_model> prepared{caf::error{}};
};
using registering_ptr = std::shared_ptr<registering>;

/// Blocks; on a thread of its own.
void prepare(registering& job) {
  auto found = guarded(ec::bad_model, [&] { return job.state->source(job.wanted, job.stop); });
  job.prepared_after = microseconds_since(job.begin);
  if (found) {
    auto& as = found->spec.registered;
    as.version = job.wanted.version;
    as.url = job.wanted.url;
    as.at_startup = job.wanted.at_startup;
  }
  job.prepared = std::move(found);
}

void fail(const registering_ptr& job, caf::error why) {
  const auto& wanted = job->wanted;
  auto label = label_of(wanted.name.empty() ? config::inferred_name(wanted.url) : wanted.name,
                        wanted.version);
  telemetry::log(log_level::error, {}, "model '" + label + "' was not loaded: " + text_of(why));
  if (job->failure == on_failure::forget)
    job->state->models.remove(job->serial);
  else
    job->state->models.failed(job->serial, text_of(why));
  job->answer(std::move(why));
}

void count_sent(const front_state& state) {
  if (state.metrics)
    state.metrics->sent(telemetry::actor_kind::engine);
}

/// Takes a model that is of no use back out of the engine, and then answers.
void unload(caf::event_based_actor* self, const registering_ptr& job, const model_spec& spec,
            caf::error why) {
  auto over = [=] { fail(job, why); };
  count_sent(*job->state);
  self->request(job->engine, caf::infinite, unload_atom_v, spec.name, spec.registered.version)
      .then([=](const model_status&) { over(); }, [=](const caf::error&) { over(); });
}

void note_times(const registering& job, const model_spec& spec) {
  if (!job.state->metrics)
    return;
  auto numbers = job.state->metrics->model(label_of(spec.name, spec.registered.version));
  numbers->download_time.set(job.prepared_after);
  numbers->register_time.set(microseconds_since(job.begin));
}

void load(caf::event_based_actor* self, const registering_ptr& job) {
  if (!job->prepared)
    return fail(job, std::move(job->prepared.error()));
  auto& found = *job->prepared;
  auto label = label_of(found.spec.name, job->wanted.version);
  for (const auto& warning : found.warnings)
    telemetry::log(log_level::warn, {}, "model '" + label + "': " + warning);
  found.dialect.default_model = found.spec.name;
  auto dialect = std::make_shared<const dialect_settings>(std::move(found.dialect));
  if (auto err = job->state->models.prepared(job->serial, found.spec.name, std::move(dialect)))
    return fail(job, std::move(err));
  job->wanted.name = found.spec.name;
  count_sent(*job->state);
  self->request(job->engine, caf::infinite, load_atom_v, found.spec)
      .then(
          [=, spec = found.spec](model_status& status) {
            // Who unregisters a model finds it in the catalogue before the engine has it.
            if (auto err = job->state->models.ready(job->serial))
              return unload(self, job, spec, std::move(err));
            note_times(*job, spec);
            job->answer(std::move(status));
          },
          [=, spec = found.spec](caf::error& why) {
            if (job->failure == on_failure::forget && code_of(why) != ec::name_taken)
              unload(self, job, spec, std::move(why));
            else
              fail(job, std::move(why));
          });
}

} // namespace

caf::error register_model(caf::actor_system& system, engine_actor engine,
                          std::shared_ptr<front_state> state, config::model_request wanted,
                          on_failure failure, registration_answer answer) {
  catalogued_model entry;
  if (wanted.name.empty())
    entry.name = config::inferred_name(wanted.url);
  else
    entry.name = wanted.name;
  entry.version = wanted.version;
  entry.url = wanted.url;
  entry.at_startup = wanted.at_startup;
  auto job = std::make_shared<registering>();
  job->stop = entry.stop.get_token();
  auto serial = state->models.add(std::move(entry));
  if (!serial)
    return std::move(serial.error());
  job->serial = *serial;
  job->engine = std::move(engine);
  job->state = std::move(state);
  job->wanted = std::move(wanted);
  job->failure = failure;
  job->answer = std::move(answer);
  system.spawn<caf::detached>([job](caf::event_based_actor* self) {
    prepare(*job);
    load(self, job);
  });
  return {};
}

void unregister_model(caf::actor_system& system, engine_actor engine,
                      std::shared_ptr<front_state> state, unregistration_request wanted,
                      std::function<void(caf::error)> answer) {
  system.spawn([=](caf::event_based_actor* self) {
    auto gone = [=](const model_status&) {
      state->models.remove(wanted.model, wanted.version);
      answer({});
    };
    auto unknown = [=](caf::error& why) {
      // What is only being prepared, or could not be, the engine has never heard of.
      auto known = state->models.remove(wanted.model, wanted.version);
      answer(known && code_of(why) == ec::model_not_found ? caf::error{} : std::move(why));
    };
    count_sent(*state);
    if (wanted.version)
      self->request(engine, caf::infinite, unload_atom_v, wanted.model, *wanted.version)
          .then(gone, unknown);
    else
      self->request(engine, caf::infinite, unload_atom_v, wanted.model).then(gone, unknown);
  });
}

} // namespace troupe::http
