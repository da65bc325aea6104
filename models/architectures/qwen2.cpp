#include "troupe/models/architectures/recipes.hpp"

namespace troupe::models {

/// Llama with biases on q, k and v. Source: transformers, models/qwen2.
const decoder_recipe qwen2_recipe = {.architecture = "Qwen2ForCausalLM",
                                     .model_type = "qwen2",
                                     .names = llama_names(),
                                     .read = [](const json_file& json, decoder_config& config) {
                                       read_llama_fields(json, config, 32768);
                                       read_layer_windows(json, config);
                                       config.qkv_bias = true;
                                     }};

} // namespace troupe::models
