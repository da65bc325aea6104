#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include <caf/all.hpp>

#include "troupe/actors/choice.hpp"
#include "troupe/actors/interfaces.hpp"
#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/actors/telemetry/request_window.hpp"
#include "troupe/actors/tokenizer.hpp"
#include "troupe/actors/tokenizer_pool.hpp"
#include "troupe/models/stage.hpp"

namespace troupe {

/// What a model gives to each of its requests; read-only, shared.
struct request_environment {
  std::string model;
  models::model_info info;
  text_tools_ptr tools;
  std::shared_ptr<const tokenizer_pool> pool;
  bool several_copies = false; ///< A request may have to go on at another copy's scheduler.
  telemetry::metrics_ptr metrics;
  telemetry::model_metrics_ptr numbers;
  std::shared_ptr<telemetry::request_window> window; ///< Null: requests are not summed up.
};
using request_environment_ptr = std::shared_ptr<const request_environment>;

/// Which time has passed; the number in (timeout_atom, n).
enum class request_timer : uint32_t { deadline, reading, generation };

/// One choice and its sequence at the scheduler.
struct request_branch {
  choice text;
  sequence_id sequence{};
  bool admitted = false;         ///< The scheduler has answered with the id.
  bool live = false;             ///< The scheduler has it and has not confirmed its end.
  bool returned = false;         ///< The scheduler was told to end it.
  std::vector<token_event> kept; ///< Collected answers: its tokens until all choices have ended.
  std::vector<int32_t> drawn;    ///< Its tokens so far, where another copy may have to go on.
  size_t known = 0;              ///< So many that a search repeats elsewhere are told already.
};

struct request_state {
  static constexpr const char* name = "request";

  request_environment_ptr env;
  generation_request request;
  event_sink sink;
  caf::actor_addr owner;     ///< The model.
  scheduler_actor scheduler; ///< Of the copy that runs it.
  uint32_t moves = 0;        ///< From copy to copy.

  std::vector<int32_t> prompt;
  uint32_t max_new_tokens = 0; ///< Of each choice.
  std::vector<request_branch> branches;
  std::shared_ptr<search_watch> watch; ///< Of beams; else null.
  size_t open = 0;                     ///< Branches that have not ended.
  size_t unanswered = 0;               ///< Sequences that the scheduler has yet to admit or refuse.
  event_batch out;                     ///< What this message's handler has to tell.
  bool prompt_told = false;
  bool drawn = false; ///< A token has come.
  bool over = false;  ///< The terminal event is out, or nobody is there to receive it.

  uint64_t outstanding = 0; ///< Weight that the sink has not granted back.
  bool parked = false;
  bool reading_timer = false; ///< A timer for slow reading is on its way.
  caf::actor_clock::time_point last_credit{};
  std::chrono::steady_clock::time_point arrived = std::chrono::steady_clock::now();
  // For the trace, if there is one:
  std::chrono::steady_clock::time_point submitted{};   ///< To the scheduler.
  std::chrono::steady_clock::time_point first_token{}; ///< When it came.
  uint32_t waited_us = 0;                              ///< At the scheduler, for the first step.
  // For the window, if there is one:
  std::chrono::steady_clock::time_point last_token{};
  std::chrono::steady_clock::duration text_time{}; ///< Spent on text and events.
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
};

using request_ptr = request_actor::stateful_pointer<request_state>;

/// Owns one request until its last byte. Spawned by its model, which then sends submit_atom.
/// @param owner The model; its death ends the request with a typed error.
/// @param scheduler Of the copy that it is to run on, until the model names another one.
request_actor::behavior_type request_behavior(request_ptr self, request_environment_ptr env,
                                              caf::actor_addr owner, scheduler_actor scheduler,
                                              generation_request request, event_sink sink);

} // namespace troupe
