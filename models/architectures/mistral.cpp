#include "troupe/models/architectures/recipes.hpp"

namespace troupe::models {

/// Llama with a window: every layer sees the last `sliding_window` positions only.
/// Source: transformers, models/mistral.
const decoder_recipe mistral_recipe = {
    .architecture = "MistralForCausalLM",
    .model_type = "mistral",
    .names = llama_names(),
    .read = [](const json_file& json, decoder_config& config) {
      read_llama_fields(json, config, 131072);
      if (json.has("sliding_window"))
        config.windows.assign(config.layers,
                              static_cast<uint32_t>(json.integer("sliding_window", 1, 1 << 26)));
    }};

} // namespace troupe::models
