#pragma once

#include <memory>

#include "troupe/http/connection.hpp"

namespace troupe::http {

/// Runs a generation for nobody in particular: its answer is kept in the front end's results.
/// @returns the answer that tells its client how to fetch it.
reply run_in_background(const std::shared_ptr<front_end>& front, generation_job job);

} // namespace troupe::http
