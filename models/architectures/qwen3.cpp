#include "troupe/models/architectures/recipes.hpp"

namespace troupe::models {

namespace {
decoder_names names() {
  auto n = llama_names();
  n.q_norm = "layers.{}.self_attn.q_norm";
  n.k_norm = "layers.{}.self_attn.k_norm";
  return n;
}
} // namespace

/// Llama whose heads are normalised before the rotation. Source: transformers, models/qwen3.
const decoder_recipe qwen3_recipe = {.architecture = "Qwen3ForCausalLM",
                                     .model_type = "qwen3",
                                     .names = names(),
                                     .read = [](const json_file& json, decoder_config& config) {
                                       read_llama_fields(json, config, 32768);
                                       if (!json.has("head_dim"))
                                         config.head_size = config.rope.dims =
                                             128; // transformers' default here, not hidden / heads
                                       read_layer_windows(json, config);
                                       config.qkv_bias = config.out_bias =
                                           json.boolean("attention_bias", false);
                                     }};

} // namespace troupe::models
