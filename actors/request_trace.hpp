#pragma once

#include "troupe/actors/request.hpp"
#include "troupe/actors/telemetry/traces.hpp"

namespace troupe {

/// Tells the tracer of a request that ends now. Whoever sent it may have asked not to be traced.
void record_trace(const request_state& state, telemetry::outcome how);

} // namespace troupe
