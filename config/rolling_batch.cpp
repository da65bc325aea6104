#include "troupe/config/rolling_batch.hpp"

namespace troupe::config {

namespace {

bool generates_text(std::string_view architecture) {
  return architecture.empty() || architecture.ends_with("ForCausalLM") ||
         architecture.ends_with("LMHeadModel") ||
         architecture.ends_with("ForConditionalGeneration");
}

/// Whether it is the model's own, and no default of the server.
bool said_for_this_model(const origin& of_model, const origin& of_server) {
  return of_model.where != of_server.where &&
         (of_model.from == source::file || of_model.from == source::argument);
}

} // namespace

caf::expected<batching_mode> resolve_rolling_batch(const settings& model, const settings& server,
                                                   std::string_view architecture) {
  const auto& batch = model.origin_of("batch_size");
  if (model.integer("batch_size") > 1 && said_for_this_model(batch, server.origin_of("batch_size")))
    return batching_mode{false, "batch_size > 1 (" + batch.where + ")"};
  const auto& from = model.origin_of("option.rolling_batch");
  const auto& word = model.text("option.rolling_batch");
  const auto because = "option.rolling_batch=" + word + " (" + from.where + ")";
  if (word == "disable")
    return batching_mode{false, because};
  if (word == "scheduler" && !generates_text(architecture))
    return caf::make_error(ec::bad_option, because + " needs a model that generates text, which " +
                                               std::string{architecture} +
                                               " does not; leave it out, or set it to auto");
  return batching_mode{generates_text(architecture), because};
}

} // namespace troupe::config
