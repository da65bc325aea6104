#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/models/stage.hpp"

/// The shard actor: owns one stage of a model and runs steps on it, on a thread of its own.
namespace troupe {

/// What happens to a step on a shard, for those who want to watch the order of things.
struct shard_event {
  enum class kind : uint8_t {
    begin,   ///< The forward pass is launched.
    end,     ///< It is over, or, on a device, on its way with all that follows; its output is sent
             ///< next.
    fault,   ///< It failed.
    skipped, ///< The step was void; only its bookkeeping was applied.
  };
  kind what{};
  uint32_t shard = 0;
  epoch_id epoch{};
  step_id id{};
};

/// What a shard needs of the one behind it.
using activation_receiver = caf::typed_actor<caf::reacts_to<epoch_id, step_id, models::activation>>;

/// What a shard needs of its scheduler.
using result_receiver =
    caf::typed_actor<caf::reacts_to<step_result>, caf::reacts_to<landing_atom, step_id>,
                     caf::reacts_to<fault_atom, epoch_id, step_id, caf::error>>;

/// What a shard is spawned with.
struct shard_options {
  uint32_t index = 0;             ///< Its place in the order of layers; 0 gets no activations.
  shard_owner owner;              ///< Hears of loading; a model actor.
  models::stage_factory make;     ///< Runs on the shard's own thread.
  std::stop_token stop;           ///< Ends loading early: checked at every report of progress.
  telemetry::metrics_ptr metrics; ///< May be null.
  std::function<void(const shard_event&)> log; ///< Called on the shard's thread; may be empty.
  /// The stage does what makes later steps faster after so long without a step.
  std::chrono::milliseconds idle_after{250};
};

struct shard_state {
  static constexpr const char* name = "shard";

  shard_options options;
  std::unique_ptr<models::stage> stage;

  /// A step that waits for its turn or its activation.
  struct queued_step {
    step value;
    bool voided = false;
  };

  bool wired = false;
  epoch_id epoch{};
  activation_receiver next;  ///< The shard behind; null for the last one.
  result_receiver scheduler; ///< Answers and faults go there.
  std::deque<queued_step>
      steps; ///< In the order of their ids; of this epoch or, before its wiring, a newer one.
  std::map<std::pair<epoch_id, step_id>, models::activation>
      arrived; ///< Activations whose step has not run.
  /// A step that the stage works on without us; the oldest first.
  struct launched_step {
    epoch_id epoch{};
    step_id id{};
    std::chrono::steady_clock::time_point begin;
    uint64_t turnaround_ns = 0;
  };
  std::deque<launched_step> running;
  std::chrono::steady_clock::time_point last_end{}; ///< Of a step that ran without us.

  /// When the last step was found to be over, until the next one is launched.
  std::optional<std::chrono::steady_clock::time_point> turning;
  std::chrono::steady_clock::time_point last_step{}; ///< When a step last came or ended.

  step_id finished{};   ///< The last step that left `steps`; ids only grow.
  bool ran_any = false; ///< `finished` means something.
};

using shard_ptr = shard_actor::stateful_pointer<shard_state>;

/// Loads its stage before it handles its first message and tells the owner: (loaded_atom, index) or
/// (fault_atom, index, error), after which it ends with that error. Spawn it with `caf::detached`:
/// loading and forward passes take their time. ec::device_lost ends it later on, too; other faults
/// of a step go to the scheduler as (fault_atom, epoch, id, error) and the shard lives on.
shard_actor::behavior_type shard(shard_ptr self, shard_options options);

} // namespace troupe
