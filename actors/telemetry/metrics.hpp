#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Counters, gauges and histograms that actors record into and front ends render. Recording is
/// lock-free (relaxed atomics) and safe from any thread; reading sees each number whole, though not
/// all numbers of one instant.
namespace troupe::telemetry {

/// Only goes up.
class counter {
public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<uint64_t> value_{0};
};

/// A level.
class gauge {
public:
  void set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(int64_t delta) { value_.fetch_add(delta, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<int64_t> value_{0};
};

/// One of several contributions to a gauge, which shows their sum.
class gauge_share {
public:
  void set(gauge& whole, int64_t value) {
    whole.add(value - share_);
    share_ = value;
  }

private:
  int64_t share_ = 0;
};

/// Counts values by upper bound, as Prometheus histograms do.
class histogram {
public:
  static constexpr size_t max_bounds = 24;

  /// @param bounds Ascending upper bounds (inclusive), at most `max_bounds`; must outlive this.
  explicit histogram(std::span<const double> bounds);

  void observe(double value) { observe(value, 1); }
  /// The same value `times` times, for the price of one.
  void observe(double value, uint64_t times);

  std::span<const double> bounds() const { return bounds_; }
  /// Cumulative counts, [bounds + 1]; the last one counts all.
  std::vector<uint64_t> cumulative() const;
  uint64_t count() const;
  double sum() const { return sum_.load(std::memory_order_relaxed); }

private:
  std::span<const double> bounds_;
  std::array<std::atomic<uint64_t>, max_bounds + 1> buckets_{};
  std::atomic<double> sum_{0};
};

/// Upper bounds in seconds, 100 us to 60 s.
std::span<const double> latency_bounds();
/// Upper bounds for counts per step, powers of two, 1 to 8192.
std::span<const double> size_bounds();
/// From 0 to 1.
std::span<const double> share_bounds();

/// How a request ended.
enum class outcome : uint8_t {
  length,
  eos_token,
  stop_sequence,
  cancelled, ///< The client left, or read too slowly.
  refused,   ///< Queue full, not ready, shutting down.
  invalid,   ///< The request's own fault.
  timeout,   ///< Deadline or slot timeout.
  failed,    ///< Our fault: row, step or device.
};
inline constexpr size_t outcome_count = 8;
std::string_view to_string_view(outcome o);

/// The kinds of actor whose mailbox depth is shown.
enum class actor_kind : uint8_t {
  engine,
  supervisor,
  model,
  replica,
  tokenizer,
  request,
  scheduler,
  shard,
  sink,
};
inline constexpr size_t actor_kind_count = 9;
std::string_view to_string_view(actor_kind k);

/// Messages to actors of one kind. Depth of their mailboxes = sent - handled, because CAF 0.17 has
/// no telemetry: whoever sends counts `sent`, the receiving behaviour counts `handled`. Of messages
/// that may be sent to an actor which has left already, or that come from or go to a host's own
/// actors, the receiver counts both (`crossed`): they never add to the depth.
struct alignas(64) mailbox {
  counter sent;
  alignas(64) counter handled;
};

/// Two numbers of the last so many requests.
struct quantiles {
  gauge median;
  gauge ninetieth;
};

/// Everything measured of one model. An actor obtains it once and keeps the pointer. The comment of
/// each block names who records it.
struct model_metrics {
  explicit model_metrics(std::string name);

  const std::string model;

  // Request actor.
  std::array<counter, outcome_count> requests;     ///< Indexed by `outcome`.
  counter prompt_tokens;                           ///< Of accepted prompts, cached ones included.
  counter cached_tokens;                           ///< Prompt tokens taken from the prefix cache.
  counter generated_tokens;                        ///< Delivered; surplus tokens are not counted.
  histogram time_to_first_token{latency_bounds()}; ///< Seconds from arrival.
  histogram request_time{latency_bounds()};        ///< Seconds from arrival to the last event.

  // Supervisor and whoever registers models; microseconds of the last time.
  gauge load_time;
  gauge register_time; ///< From the request to register to the model's readiness.
  gauge download_time; ///< Fetching and reading its settings.
  counter loading_errors;

  // Model.
  gauge call_batch; ///< Calls of the last batch of more than one; without rolling batch.

  // Request window; only with log_request_metric.
  counter windows;            ///< Closed so far; without one the following mean nothing.
  quantiles prediction;       ///< Microseconds of a request.
  quantiles preprocess;       ///< Of these, until the scheduler had its tokens.
  quantiles inference;        ///< From its first step to its last token.
  quantiles postprocess;      ///< Making text and events of tokens.
  quantiles token_latency;    ///< Microseconds of a request per token of its answer.
  quantiles token_throughput; ///< Tokens per second of a request.
  quantiles output_tokens;
  quantiles batch_size; ///< Sequences that ran when a request ended.

  // Scheduler.
  counter slot_timeouts;                  ///< Sequences that got no slot in time.
  histogram queue_time{latency_bounds()}; ///< Seconds a sequence waited for its first step.
  gauge waiting;                          ///< Sequences without a slot.
  gauge running;                          ///< Sequences with a slot, parked ones included.
  gauge parked;
  gauge blocks_used;   ///< Referenced by a live sequence.
  gauge blocks_free;   ///< Neither referenced nor cached.
  gauge blocks_shared; ///< Referenced more than once.
  gauge blocks_cached; ///< Unreferenced, kept for the prefix cache.
  gauge steps_in_flight;
  gauge epoch;
  counter steps;
  counter step_faults;    ///< Steps voided; each is retried in halves.
  counter row_faults;     ///< Sequences ended by their own fault.
  counter preemptions;    ///< Sequences whose KV was given up for lack of blocks.
  counter swaps;          ///< Of those, sequences that left it in host memory.
  counter replays;        ///< Sequences computed again because a shard was lost.
  counter surplus_tokens; ///< Computed for a sequence that had already ended.
  histogram inter_token_time{latency_bounds()}; ///< Seconds between two tokens of one sequence.
  histogram step_time{latency_bounds()};        ///< Seconds from a step's start to its result.
  histogram compute_time{latency_bounds()};     ///< Seconds the last shard computed for it.
  histogram device_time{latency_bounds()};      ///< Seconds its device was busy with it.
  histogram turnaround{latency_bounds()};       ///< Seconds from a step's end to the next launch.
  histogram tick_time{latency_bounds()};        ///< Seconds of the scheduler's own work per tick.
  histogram step_rows{size_bounds()};
  histogram step_tokens{size_bounds()};
  histogram batch_splits{size_bounds()}; ///< Steps that one tick's ready sequences were split over.
  /// Share of a step's cells that padding to its longest sequence would have filled; nothing is
  /// padded here (contract generation.md §8).
  histogram batch_sparsity{share_bounds()};

  counter& ended(outcome o) { return requests[static_cast<size_t>(o)]; }
};

/// A label of a sample: name and raw (unescaped) value.
struct label {
  std::string name;
  std::string value;
};

/// One time series. Counter and gauge fill `value`, a histogram the rest.
struct sample {
  std::vector<label> labels;
  double value = 0;
  std::vector<double> bounds;       ///< Upper bounds without +Inf.
  std::vector<uint64_t> cumulative; ///< [bounds + 1]
  double sum = 0;
};

enum class family_type : uint8_t { counter, gauge, histogram };

/// What a front end renders as one metric family; `name` is complete, as "troupe_requests_running".
struct family {
  std::string name;
  std::string help;
  family_type type = family_type::counter;
  std::vector<sample> samples;
};

/// The process's numbers, shared by pointer (`metrics_ptr`).
class metrics {
public:
  metrics() = default;
  metrics(const metrics&) = delete;
  metrics& operator=(const metrics&) = delete;

  /// The numbers of a model, made at the first call with that name. Takes a lock: call it once per
  /// actor, not per message.
  std::shared_ptr<model_metrics> model(std::string_view name);

  /// No longer shows a model; who holds its numbers may go on recording. A later call of `model`
  /// begins anew.
  void forget(std::string_view name);

  mailbox& actor(actor_kind k) { return mailboxes_[static_cast<size_t>(k)]; }
  void sent(actor_kind k, uint64_t n = 1) { actor(k).sent.add(n); }
  void handled(actor_kind k, uint64_t n = 1) { actor(k).handled.add(n); }
  /// A message was handled whose sender did not count it.
  void crossed(actor_kind k) {
    sent(k);
    handled(k);
  }

  /// All families in a fixed order, models by the time of their first mention.
  std::vector<family> snapshot() const;

private:
  mutable std::mutex guard_; ///< Of `models_` only; never held while recording.
  std::vector<std::shared_ptr<model_metrics>> models_;
  std::array<mailbox, actor_kind_count> mailboxes_;
};

using metrics_ptr = std::shared_ptr<metrics>;
using model_metrics_ptr = std::shared_ptr<model_metrics>;

} // namespace troupe::telemetry
