#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/scheduling/limits.hpp"
#include "troupe/actors/shard.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/models/stage.hpp"

/// One copy of a model: the scheduler and the shards that it drives, on its own devices.
namespace troupe {

/// What a copy is spawned with.
struct replica_options {
  uint32_t id = 0;           ///< Names it in its reports.
  std::string label;         ///< Names it in sentences.
  replica_owner owner;       ///< Hears how it stands; a model actor.
  models::load_options load; ///< Limits of its scheduler.
  bool prefix_cache = true;  ///< model_spec::prefix_cache
  /// A plan that is ready; null: `make_plan` makes one, on a thread of its own.
  std::shared_ptr<const models::model_plan> plan;
  std::function<caf::expected<models::model_plan>()> make_plan;
  bool detached = true; ///< model_factories::detached
  telemetry::metrics_ptr metrics;
  telemetry::model_metrics_ptr numbers; ///< Those of its model.
  std::function<void(const shard_event&)> shard_log;
};

/// A place in the order of layers.
struct replica_shard {
  shard_actor actor; ///< Null while it is dead.
  bool loaded = false;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  std::string problem; ///< Why it could not be loaded again; its death follows.
  std::stop_source stop;
};

struct replica_state {
  static constexpr const char* name = "replica";

  /// Whatever way it ends, its children end with it.
  ~replica_state();

  replica_options options;
  std::shared_ptr<const models::model_plan> plan;
  replica_phase phase = replica_phase::planning;
  epoch_id epoch{};
  scheduler_actor scheduler;
  std::vector<replica_shard> shards;
  std::set<caf::actor_id> leaving; ///< Children that were told to end.
  bool ends = false;               ///< It ends with the last of them.
  std::vector<caf::typed_response_promise<done_atom>> unload_waiters;
};

using replica_ptr = replica_actor::stateful_pointer<replica_state>;

/// Plans and loads at once, and reports each change to its owner. A loss does not end it: its owner
/// says when it is to load again. Ends once unloaded, or after it has reported to have failed.
replica_actor::behavior_type replica(replica_ptr self, replica_options options);

} // namespace troupe
