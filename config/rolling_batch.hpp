#pragma once

#include <string>
#include <string_view>

#include "troupe/config/options.hpp"

namespace troupe::config {

/// How a model batches, and why.
struct batching_mode {
  bool rolling = true; ///< Continuous batching; otherwise one request, or dynamic batch, at a time.
  std::string because; ///< "option.rolling_batch (serving.properties:3)"
};

/// Resolves `option.rolling_batch`: a batch_size above 1 that the model's own file or register call
/// asks for switches it off, whatever else is said; then the value counts; `auto` is rolling for
/// models that generate text, which is told from the end of the architecture's name.
/// @param server What `model` was resolved over; a batch_size of the server is a default only.
/// @param architecture As in config.json; empty: taken for one that generates text.
/// Errors: ec::bad_option for `scheduler` with an architecture that does not generate text.
caf::expected<batching_mode> resolve_rolling_batch(const settings& model, const settings& server,
                                                   std::string_view architecture);

} // namespace troupe::config
