#include "troupe/actors/telemetry/metrics.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace troupe::telemetry {

namespace {

constexpr std::array<double, 22> latencies{1e-4,   2.5e-4, 5e-4, 1e-3,   2.5e-3, 5e-3, 1e-2, 1.5e-2,
                                           2.5e-2, 3.5e-2, 5e-2, 7.5e-2, 0.1,    0.15, 0.25, 0.5,
                                           1.0,    2.5,    5.0,  10.0,   30.0,   60.0};
constexpr std::array<double, 14> sizes{1,   2,   4,   8,    16,   32,   64,
                                       128, 256, 512, 1024, 2048, 4096, 8192};
constexpr std::array<double, 11> shares{0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0};

using model_list = std::vector<std::shared_ptr<model_metrics>>;

/// Collects the families of all models, one after another.
class report {
public:
  explicit report(const model_list& models) : models_(models) {}

  template <class Get>
  void count(std::string name, std::string help, Get get) {
    single(std::move(name), std::move(help), family_type::counter, get);
  }

  template <class Get>
  void level(std::string name, std::string help, Get get) {
    single(std::move(name), std::move(help), family_type::gauge, get);
  }

  void distribution(std::string name, std::string help, const histogram model_metrics::*member) {
    family f{std::move(name), std::move(help), family_type::histogram, {}};
    for (const auto& m : models_) {
      const auto& h = (*m).*member;
      sample s;
      s.labels = {{"model", m->model}};
      s.bounds.assign(h.bounds().begin(), h.bounds().end());
      s.sum = h.sum();
      s.cumulative = h.cumulative();
      f.samples.push_back(std::move(s));
    }
    add(std::move(f));
  }

  void add(family f) { families_.push_back(std::move(f)); }
  const model_list& models() const { return models_; }
  std::vector<family> take() { return std::move(families_); }

private:
  template <class Get>
  void single(std::string name, std::string help, family_type type, Get get) {
    family f{std::move(name), std::move(help), type, {}};
    for (const auto& m : models_) {
      sample s;
      s.labels = {{"model", m->model}};
      s.value = static_cast<double>(std::invoke(get, *m).value());
      f.samples.push_back(std::move(s));
    }
    add(std::move(f));
  }

  const model_list& models_;
  std::vector<family> families_;
};

void report_requests(report& r) {
  family ended{"troupe_requests_total", "Requests by how they ended.", family_type::counter, {}};
  for (const auto& m : r.models())
    for (size_t i = 0; i < outcome_count; ++i) {
      sample s;
      s.labels = {{"model", m->model},
                  {"outcome", std::string{to_string_view(static_cast<outcome>(i))}}};
      s.value = static_cast<double>(m->requests[i].value());
      ended.samples.push_back(std::move(s));
    }
  r.add(std::move(ended));
  r.distribution("troupe_queue_seconds", "From a sequence's submission to its first step.",
                 &model_metrics::queue_time);
  r.count("troupe_slot_timeouts_total", "Sequences that got no slot in time.",
          &model_metrics::slot_timeouts);
  r.level("troupe_requests_waiting", "Sequences that wait for a slot.", &model_metrics::waiting);
  r.level("troupe_requests_running", "Sequences that hold a slot.", &model_metrics::running);
  r.level("troupe_requests_parked", "Sequences whose client reads too slowly.",
          &model_metrics::parked);
  r.count("troupe_prompt_tokens_total", "Prompt tokens of accepted requests.",
          &model_metrics::prompt_tokens);
  r.count("troupe_cached_prompt_tokens_total", "Prompt tokens taken from the prefix cache.",
          &model_metrics::cached_tokens);
  r.count("troupe_generated_tokens_total", "Tokens delivered to requests.",
          &model_metrics::generated_tokens);
  r.distribution("troupe_time_to_first_token_seconds", "From arrival to the first token.",
                 &model_metrics::time_to_first_token);
  r.distribution("troupe_inter_token_seconds", "Between two tokens of one sequence.",
                 &model_metrics::inter_token_time);
  r.distribution("troupe_request_seconds", "From arrival to the last event.",
                 &model_metrics::request_time);
}

void report_loading(report& r) {
  r.level("troupe_load_microseconds", "Time that loading took.", &model_metrics::load_time);
  r.level("troupe_register_microseconds", "From the registration to the model's readiness.",
          &model_metrics::register_time);
  r.level("troupe_download_microseconds", "Fetching the model and reading its settings.",
          &model_metrics::download_time);
  r.count("troupe_loading_errors_total", "Times that the model could not be loaded.",
          &model_metrics::loading_errors);
}

/// DJL Serving's names, and only for models that sum up their requests.
void report_windows(report& r) {
  struct known {
    const char* name;
    const char* help;
    const quantiles model_metrics::*member;
  };
  static constexpr known all[] = {
      {"Prediction", "Microseconds of a request.", &model_metrics::prediction},
      {"Preprocess", "Microseconds until the scheduler had a request's tokens.",
       &model_metrics::preprocess},
      {"Inference", "Microseconds from a request's first step to its last token.",
       &model_metrics::inference},
      {"Postprocess", "Microseconds of making text of a request's tokens.",
       &model_metrics::postprocess},
      {"TokenLatency", "Microseconds of a request per token.", &model_metrics::token_latency},
      {"TokenThroughput", "Tokens per second of a request.", &model_metrics::token_throughput},
      {"OutputTokens", "Tokens of an answer.", &model_metrics::output_tokens},
      {"RollingBatchSize", "Sequences that ran when a request ended.", &model_metrics::batch_size}};
  for (const auto& one : all) {
    family f{one.name, one.help, family_type::gauge, {}};
    for (const auto& m : r.models()) {
      if (m->windows.value() == 0)
        continue;
      const auto& q = (*m).*one.member;
      for (auto [share, number] : {std::pair{"0.5", &q.median}, {"0.9", &q.ninetieth}}) {
        sample s;
        s.labels = {{"Model", m->model}, {"quantile", share}};
        s.value = static_cast<double>(number->value());
        f.samples.push_back(std::move(s));
      }
    }
    if (!f.samples.empty())
      r.add(std::move(f));
  }
}

/// DJL Serving's name; models that have had no batch of several calls show nothing.
void report_call_batches(report& r) {
  family f{"DynamicBatchSize", "Calls of the last batch of several.", family_type::gauge, {}};
  for (const auto& m : r.models())
    if (auto calls = m->call_batch.value(); calls > 1) {
      sample s;
      s.labels = {{"Model", m->model}};
      s.value = static_cast<double>(calls);
      f.samples.push_back(std::move(s));
    }
  if (!f.samples.empty())
    r.add(std::move(f));
}

void report_cache(report& r) {
  r.level("troupe_kv_blocks_used", "KV blocks that a live sequence references.",
          &model_metrics::blocks_used);
  r.level("troupe_kv_blocks_free", "KV blocks neither referenced nor cached.",
          &model_metrics::blocks_free);
  r.level("troupe_kv_blocks_shared", "KV blocks that several sequences reference.",
          &model_metrics::blocks_shared);
  r.level("troupe_kv_blocks_cached", "Unreferenced KV blocks kept for the prefix cache.",
          &model_metrics::blocks_cached);
}

void report_steps(report& r) {
  r.count("troupe_steps_total", "Steps completed.", &model_metrics::steps);
  r.level("troupe_steps_in_flight", "Steps on the shards now.", &model_metrics::steps_in_flight);
  r.level("troupe_epoch", "Lives of the model's shards so far.", &model_metrics::epoch);
  r.distribution("troupe_step_seconds", "From a step's start to its result.",
                 &model_metrics::step_time);
  r.distribution("troupe_compute_seconds", "Time the last shard computed for a step.",
                 &model_metrics::compute_time);
  r.distribution("troupe_device_seconds", "Time the last shard's device was busy with a step.",
                 &model_metrics::device_time);
  r.distribution("troupe_turnaround_seconds",
                 "From a step's end until the last shard has launched the next one.",
                 &model_metrics::turnaround);
  r.distribution("troupe_tick_seconds", "The scheduler's own work per tick.",
                 &model_metrics::tick_time);
  r.distribution("troupe_batch_rows", "Sequences in a step.", &model_metrics::step_rows);
  r.distribution("troupe_batch_tokens", "Tokens in a step.", &model_metrics::step_tokens);
  r.distribution("troupe_batch_splits", "Steps over which ready sequences were split.",
                 &model_metrics::batch_splits);
  r.distribution("troupe_batch_sparsity", "Share of a step that padding would have filled.",
                 &model_metrics::batch_sparsity);
  r.count("troupe_step_faults_total", "Steps voided and retried in halves.",
          &model_metrics::step_faults);
  r.count("troupe_row_faults_total", "Sequences ended by their own fault.",
          &model_metrics::row_faults);
  r.count("troupe_preemptions_total", "Sequences whose KV was given up for lack of blocks.",
          &model_metrics::preemptions);
  r.count("troupe_swaps_total", "Preempted sequences that left their KV in host memory.",
          &model_metrics::swaps);
  r.count("troupe_replays_total", "Sequences computed again because a shard was lost.",
          &model_metrics::replays);
  r.count("troupe_surplus_tokens_total", "Tokens computed for sequences that had ended.",
          &model_metrics::surplus_tokens);
}

} // namespace

histogram::histogram(std::span<const double> bounds)
    : bounds_(bounds.first(std::min(bounds.size(), max_bounds))) {}

void histogram::observe(double value, uint64_t times) {
  auto place = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[static_cast<size_t>(place)].fetch_add(times, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(times), std::memory_order_relaxed);
}

std::vector<uint64_t> histogram::cumulative() const {
  std::vector<uint64_t> result(bounds_.size() + 1);
  uint64_t total = 0;
  for (size_t i = 0; i < result.size(); ++i) {
    total += buckets_[i].load(std::memory_order_relaxed);
    result[i] = total;
  }
  return result;
}

uint64_t histogram::count() const {
  return cumulative().back();
}

std::span<const double> latency_bounds() {
  return latencies;
}
std::span<const double> size_bounds() {
  return sizes;
}

std::span<const double> share_bounds() {
  return shares;
}

std::string_view to_string_view(outcome o) {
  switch (o) {
  case outcome::length:
    return "length";
  case outcome::eos_token:
    return "eos_token";
  case outcome::stop_sequence:
    return "stop_sequence";
  case outcome::cancelled:
    return "cancelled";
  case outcome::refused:
    return "refused";
  case outcome::invalid:
    return "invalid";
  case outcome::timeout:
    return "timeout";
  case outcome::failed:
    return "failed";
  }
  return "unknown";
}

std::string_view to_string_view(actor_kind k) {
  switch (k) {
  case actor_kind::engine:
    return "engine";
  case actor_kind::supervisor:
    return "supervisor";
  case actor_kind::model:
    return "model";
  case actor_kind::replica:
    return "replica";
  case actor_kind::tokenizer:
    return "tokenizer";
  case actor_kind::request:
    return "request";
  case actor_kind::scheduler:
    return "scheduler";
  case actor_kind::shard:
    return "shard";
  case actor_kind::sink:
    return "sink";
  }
  return "unknown";
}

model_metrics::model_metrics(std::string name) : model(std::move(name)) {}

std::shared_ptr<model_metrics> metrics::model(std::string_view name) {
  std::lock_guard lock{guard_};
  for (const auto& m : models_)
    if (m->model == name)
      return m;
  return models_.emplace_back(std::make_shared<model_metrics>(std::string{name}));
}

void metrics::forget(std::string_view name) {
  std::lock_guard lock{guard_};
  std::erase_if(models_, [=](const auto& m) { return m->model == name; });
}

std::vector<family> metrics::snapshot() const {
  model_list models;
  {
    std::lock_guard lock{guard_};
    models = models_;
  }
  report r{models};
  report_requests(r);
  report_loading(r);
  report_windows(r);
  report_call_batches(r);
  report_cache(r);
  report_steps(r);
  family sent{
      "troupe_messages_total", "Messages sent to actors of a kind.", family_type::counter, {}};
  family depth{"troupe_mailbox_depth",
               "Messages sent to actors of a kind and not handled yet.",
               family_type::gauge,
               {}};
  for (size_t i = 0; i < actor_kind_count; ++i) {
    // Handled first: what arrives between the two reads then counts as depth, never below zero.
    auto handled = mailboxes_[i].handled.value();
    auto all = mailboxes_[i].sent.value();
    sample s;
    s.labels = {{"kind", std::string{to_string_view(static_cast<actor_kind>(i))}}};
    s.value = static_cast<double>(all);
    sent.samples.push_back(s);
    s.value = all > handled ? static_cast<double>(all - handled) : 0;
    depth.samples.push_back(std::move(s));
  }
  r.add(std::move(sent));
  r.add(std::move(depth));
  return r.take();
}

} // namespace troupe::telemetry
