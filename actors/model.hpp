#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <caf/all.hpp>

#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/replica.hpp"
#include "troupe/actors/request.hpp"
#include "troupe/actors/scheduling/call_batches.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/actors/tokenizer.hpp"
#include "troupe/models/stage.hpp"

namespace troupe {

/// How a model gets what it is made of, and how patient it is. The defaults are the real thing
/// (`default_factories`); tests put in fakes.
struct model_factories {
  /// Checks and plans a folder; runs on a thread of its own.
  std::function<caf::expected<models::model_plan>(const models::load_options&)> plan;
  /// Opens tokenizer and templates; runs on that thread, too.
  std::function<caf::expected<text_tools>(const model_spec&)> text;
  /// Loader, shards and tokenizers get threads of their own. Off only under a test's coordinator.
  bool detached = true;
  /// Wait before a dead shard is loaded again; doubles with each death, up to the longest.
  std::chrono::milliseconds first_backoff{500};
  std::chrono::milliseconds longest_backoff{30'000};
  /// Watches the order of things on all shards; called on their threads. May be empty.
  std::function<void(const shard_event&)> shard_log;
};

/// Plans real folders, and the dummy model with a tokenizer of bytes.
model_factories default_factories();

/// The wait before attempt `deaths` + 1.
std::chrono::milliseconds backoff_after(uint32_t deaths, std::chrono::milliseconds first,
                                        std::chrono::milliseconds longest);

/// Which time is up; the number in the model's (timeout_atom, n).
enum class model_timer : uint32_t { loading, restart, drain, deadline, calls, idle, leaving };

/// How long a copy that is not wanted any more may finish its requests, before they go elsewhere.
inline constexpr uint32_t leaving_copy_ms = 30'000;

/// What the loader's thread hands over.
struct loaded_parts {
  models::model_plan plan;
  text_tools_ptr tools;
};

/// A request in flight, as its model sees it.
struct model_guest {
  request_actor actor;
  event_sink sink;
  uint32_t choices = 1;
  uint32_t copy = 0;                       ///< The copy that it runs on.
  bool begun = false;                      ///< Told to begin.
  caf::actor_clock::time_point deadline{}; ///< Zero: none.
};

/// Devices that hold a copy, or several of them.
struct model_place {
  std::vector<int32_t> devices; ///< Empty: the CPU.
  uint32_t min = 1;
  uint32_t max = 1;
  uint32_t wanted = 1; ///< Copies that there are to be now; from min to max.
  bool full = false;   ///< One more did not fit. Forgotten when other numbers are asked for.
};

/// One copy, as its model sees it.
struct model_copy {
  uint32_t id = 0;
  size_t place = 0;
  replica_actor actor;
  replica_phase phase = replica_phase::planning;
  scheduler_actor scheduler; ///< Null before it is planned, and while it is dead.
  bool leaving = false;      ///< Gets no more requests, and ends with its last one.
  bool unloading = false;    ///< It was told to end.
  int64_t since_ms = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  uint32_t guests = 0;
  uint32_t choices = 0;                      ///< Of them.
  caf::actor_clock::time_point idle_since{}; ///< Since when it has no guests.
  caf::actor_clock::time_point leave_by{};   ///< Then those that are left go elsewhere.
  /// Which requests may begin, where calls run in batches of their own.
  std::optional<scheduling::call_batches> calls;

  /// Takes requests.
  bool serves() const { return phase == replica_phase::ready && !leaving; }
};

/// A change of the numbers of workers that waits until new copies are planned.
struct pending_scaling {
  caf::typed_response_promise<model_status> promise;
  std::set<uint32_t> planning; ///< New copies without a plan.
  registration before;         ///< What holds again if one does not fit.
  uint64_t turn = 0;           ///< Of this change.
  caf::error problem;
};

struct model_actor_state {
  static constexpr const char* name = "model";

  /// Whatever way the model ends, its children end with it.
  ~model_actor_state();

  model_spec spec;
  model_factories factories;
  supervisor_actor supervisor; ///< May be null: then memory is not accounted for.
  telemetry::metrics_ptr metrics;
  telemetry::model_metrics_ptr numbers;

  model_state phase = model_state::loading;
  std::string problem;
  int64_t ready_since = 0;
  uint32_t deaths = 0;
  std::shared_ptr<loaded_parts> parts;
  request_environment_ptr env; ///< Null until loaded.
  std::vector<tokenizer_pool::member> tokenizers;

  std::vector<model_place> places;
  std::map<uint32_t, model_copy> copies; ///< By their ids.
  uint32_t copies_made = 0;
  bool first_plan_used = false; ///< A copy on GPUs has taken up `parts->plan`.
  std::vector<pending_scaling> scalings;
  uint64_t scale_turns = 0; ///< Changes so far.

  std::unordered_map<caf::actor_id, model_guest> guests;
  uint32_t choices = 0; ///< Of all guests.
  std::multimap<caf::actor_clock::time_point, caf::actor_id> deadlines;
  caf::actor_clock::time_point
      deadline_timer{}; ///< When the next deadline message comes; zero: none.

  std::vector<caf::typed_response_promise<model_status>> load_waiters;
  std::vector<caf::typed_response_promise<done_atom>> drain_waiters;

  std::shared_ptr<telemetry::request_window> window; ///< Null: requests are not summed up.
  std::vector<worker_status> cpu_workers;            ///< As they are shown.
  uint32_t cpu_workers_made = 0;
  std::set<caf::actor_id> leaving; ///< Children that were told to end when the model is unloaded.
  std::vector<caf::typed_response_promise<done_atom>> unload_waiters;
};

using model_ptr = model_actor::stateful_pointer<model_actor_state>;

/// Begins to load at once. Refuses requests until it is ready.
/// @param supervisor Asked for memory before the shards load; may be null.
model_actor::behavior_type model_behavior(model_ptr self, model_spec spec,
                                          model_factories factories, supervisor_actor supervisor,
                                          telemetry::metrics_ptr metrics);

} // namespace troupe
