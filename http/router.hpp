#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/http/api_keys.hpp"
#include "troupe/http/async_results.hpp"
#include "troupe/http/dialects/dialect.hpp"
#include "troupe/http/error_rates.hpp"
#include "troupe/http/errors.hpp"
#include "troupe/http/management.hpp"
#include "troupe/http/message.hpp"
#include "troupe/http/metrics_text.hpp"
#include "troupe/http/model_catalogue.hpp"
#include "troupe/http/model_source.hpp"
#include "troupe/http/settings.hpp"
#include "troupe/http/url_pattern.hpp"

namespace troupe::http {

/// Which routes a listener has: all, or one half of them when each has a listener of its own.
enum class listener_role : uint8_t { everything, inference, management };

/// Wants the metrics of the GPUs' memory too, for which their driver has to be asked.
struct metrics_query {
  std::vector<std::string> only; ///< As in `prometheus_text`.
};

/// A question to the engine, or a change to its models, and whose error bodies its answer has.
struct engine_query {
  std::variant<status_view, tokenize_request, detokenize_request, registration_request,
               worker_scaling, unregistration_request, metrics_query>
      what;
  error_style errors = error_style::lmi;
};

/// A model that nobody has loaded yet is loaded first, and then the request is routed again.
struct load_first {
  registration_request load;
  request then;
};

using routed = std::variant<reply, generation_job, engine_query, load_first>;

/// What the routes share and the connections count.
struct front_state {
  server_settings settings;
  telemetry::metrics_ptr metrics; ///< May be null: then only the front end's own families show.
  front_metrics counters;
  server_facts facts;
  error_rates failures;
  mutable key_ring keys; ///< Locks by itself, as do the results.
  mutable async_results results;
  std::atomic<bool> draining{false};
  model_catalogue models;
  model_source source; ///< Null: no models can be registered.
  /// Which URLs an inference request may have loaded; null: none.
  std::unique_ptr<const url_pattern> loadable;

  explicit front_state(server_settings s = {})
      : settings(std::move(s)), failures(settings.error_rates), keys(settings.api_keys),
        results(settings.async_capacity, settings.async_batch) {}
};

/// A fresh id: a UUID, 36 characters.
std::string new_id();

/// Gives the request its id (header of the configured name, else a new UUID) and unpacks
/// SageMaker's custom attributes into headers.
void admit(const server_settings& settings, request& r);

/// Finds out whose key a request brings. Refuses one that needs a key and has none that is known;
/// its head is enough for that.
std::optional<reply> check_key(const front_state& state, request& r);

/// Finds out what a request wants: an answer at once, a generation, a question to the engine, or a
/// model to be loaded before it.
/// Touches neither actors nor sockets; any thread. Parses the body, so large ones take a while.
routed route(const front_state& state, request& r, listener_role role = listener_role::everything);

/// The metrics page. Any thread.
reply metrics_reply(const front_state& state, const std::vector<device_memory>& devices,
                    const std::vector<std::string>& only);

/// The error bodies that a path's clients understand.
error_style style_of(std::string_view path);

} // namespace troupe::http
