#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/scheduling/batching.hpp"
#include "troupe/actors/scheduling/pipeline.hpp"
#include "troupe/actors/telemetry/metrics.hpp"

/// The scheduler actor: a thin shell that feeds messages to the policy (actors/scheduling/) and
/// carries out what it decides.
namespace troupe {

/// What a scheduler is spawned with.
struct scheduler_options {
  scheduling::batching_limits limits;
  telemetry::metrics_ptr metrics;     ///< Mailbox depths; may be null.
  telemetry::model_metrics_ptr model; ///< This model's numbers; may be null.
  /// Whether a sequence must not be scheduled ahead; see models::model_plan. Null: none.
  std::function<bool(const sampling_params&, const row_wants&)> needs_host;
};

/// What a scheduler adds to its model's levels, which it may share with those of other copies.
struct scheduler_levels {
  /// Takes its share back.
  ~scheduler_levels() {
    if (model)
      show({}, 0);
  }
  void show(const scheduler_load& load, uint32_t steps_in_flight);

  telemetry::model_metrics_ptr model; ///< May be null.
  telemetry::gauge_share waiting, running, parked, blocks_used, blocks_cached, blocks_shared,
      blocks_free, steps;
};

/// The shell's share of a sequence, found by the index that the policy gave it.
struct scheduler_client {
  sequence_id sequence{};
  token_receiver receiver;
  caf::actor_clock::time_point last_token{}; ///< Zero before the first.
  caf::actor_clock::time_point submitted{};  ///< Zero once its first step has begun.
  caf::actor_clock::duration_type waited{};  ///< Until then.
};

struct scheduler_state {
  static constexpr const char* name = "scheduler";

  scheduler_options options;
  std::optional<scheduling::batching> policy; ///< Always set once the behaviour runs.
  scheduling::pipeline steps;
  std::vector<shard_actor> shards;       ///< In the order of their layers; empty without an epoch.
  std::vector<scheduler_client> clients; ///< By the policy's index.
  /// The sequences of each receiver, which is monitored once.
  std::unordered_map<caf::actor_addr, std::vector<sequence_id>> watched;
  std::vector<std::pair<step_id, caf::actor_clock::time_point>> started; ///< Steps in flight.
  caf::actor_clock::time_point last_landing{}; ///< When a step was last over.
  step_id departure_timer{};                   ///< The running step for whose end a timer was set.
  std::vector<std::pair<sequence_id, uint32_t>>
      untimed;                                    ///< Wait, with a slot timeout (ms) not armed yet.
  std::vector<scheduling::sequence_event> events; ///< Reused.
  scheduling::policy_counts reported;             ///< What metrics have seen already.
  scheduler_levels levels;
  caf::error refusal;   ///< Set while new sequences are turned away.
  bool ticking = false; ///< A tick is on its way to ourselves.
};

using scheduler_ptr = scheduler_actor::stateful_pointer<scheduler_state>;

/// Starts without shards: sequences wait until the first (wire_atom, epoch, shards). Ends when told
/// to by an exit message; its receivers should monitor it.
scheduler_actor::behavior_type scheduler(scheduler_ptr self, scheduler_options options);

} // namespace troupe
