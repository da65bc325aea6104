#pragma once

#include <memory>
#include <span>
#include <string>

#include <caf/expected.hpp>

#include "troupe/actors/telemetry/traces.hpp"

namespace troupe::runtime {

/// The body of an export: an ExportTraceServiceRequest in the JSON encoding of OTLP. A span per
/// request with the attributes of OpenTelemetry's conventions for generative models, and below it
/// the spans `queue`, `prefill` and `decode`, as far as the request came.
std::string otlp_json(std::span<const telemetry::request_trace> traces, std::string_view version);

/// Sends the process's traces to a collector, from a thread of its own. Destroying it sends what is
/// left, for two seconds at most.
class otlp_exporter {
public:
  /// @param endpoint Base URL of a collector, as OTEL_EXPORTER_OTLP_ENDPOINT names one: /v1/traces
  /// is added unless the URL ends so. Errors: ec::bad_option when it is no http or https URL.
  static caf::expected<std::unique_ptr<otlp_exporter>> start(const std::string& endpoint,
                                                             const std::string& version);
  ~otlp_exporter();
  otlp_exporter(const otlp_exporter&) = delete;
  otlp_exporter& operator=(const otlp_exporter&) = delete;

private:
  struct sender;
  explicit otlp_exporter(std::unique_ptr<sender> sender);
  std::unique_ptr<sender> sender_;
};

} // namespace troupe::runtime
