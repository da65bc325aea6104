#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "troupe/actors/telemetry/metrics.hpp"
#include "troupe/http/settings.hpp"

/// Prometheus text: the engine's families and the front end's own (contract http.md §8).
namespace troupe::http {

/// What the front end counts. Any thread may record.
struct front_metrics {
  telemetry::counter responses_2xx;
  telemetry::counter responses_4xx;
  telemetry::counter responses_5xx;
  telemetry::counter wlm_errors;    ///< Refusals for lack of room or readiness.
  telemetry::counter server_errors; ///< Everything else from 500 on.
  telemetry::counter requests;
  telemetry::counter connections;
  telemetry::counter bytes_sent;
  telemetry::gauge open_connections;
  telemetry::gauge open_streams;

  /// Counts a response by its status.
  void count_response(int status);
};

/// Labels and facts that no counter holds.
struct server_facts {
  std::string host;
  std::string version;
  double startup_microseconds = 0;
};

/// The families of the front end: DJL Serving's names first, ours after.
std::vector<telemetry::family> front_families(const front_metrics& metrics,
                                              const server_facts& facts);

/// GPUMemory_<i> of each GPU.
std::vector<telemetry::family> device_families(const std::vector<device_memory>& devices,
                                               const server_facts& facts);

/// DJL Serving's families of a model (RequestLatency, QueueTime, LoadModel, ...) out of ours, in
/// microseconds; without those that are missing.
std::vector<telemetry::family> derived_families(const std::vector<telemetry::family>& from);

/// Text exposition format 0.0.4.
/// @param only Names of the families to keep; empty = all.
std::string prometheus_text(const std::vector<telemetry::family>& families,
                            const std::vector<std::string>& only);

} // namespace troupe::http
