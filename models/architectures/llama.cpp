#include "troupe/models/architectures/recipes.hpp"

namespace troupe::models {

/// Source: transformers, models/llama.
const decoder_recipe llama_recipe = {.architecture = "LlamaForCausalLM",
                                     .model_type = "llama",
                                     .names = llama_names(),
                                     .read = [](const json_file& json, decoder_config& config) {
                                       read_llama_fields(json, config, 2048);
                                       config.qkv_bias = config.out_bias =
                                           json.boolean("attention_bias", false);
                                       config.mlp_bias = json.boolean("mlp_bias", false);
                                     }};

} // namespace troupe::models
