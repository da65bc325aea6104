#include "troupe/models/architectures/recipes.hpp"

#include <algorithm>

namespace troupe::models {

namespace {

decoder_names names() {
  decoder_names n;
  n.prefixes = {"transformer.",
                ""}; // openai-community/gpt2 has no prefix, save_pretrained writes one
  n.embedding = "wte.weight";
  n.positions = "wpe.weight";
  n.final_norm = "ln_f";
  n.head = "lm_head.weight";
  n.attention_norm = "h.{}.ln_1";
  n.qkv = {"h.{}.attn.c_attn"};
  n.out = "h.{}.attn.c_proj";
  n.mlp_norm = "h.{}.ln_2";
  n.up = "h.{}.mlp.c_fc";
  n.down = "h.{}.mlp.c_proj";
  return n;
}

void read(const json_file& json, decoder_config& config) {
  auto size = [&](std::string_view key, int64_t high, std::optional<int64_t> fallback = {}) {
    return static_cast<uint32_t>(json.integer(key, 1, high, fallback));
  };
  config.vocabulary = size("vocab_size", 1 << 24);
  config.hidden = size("n_embd", 1 << 17);
  config.layers = size("n_layer", 1024);
  config.heads = config.kv_heads = size("n_head", 4096);
  config.intermediate = size("n_inner", 1 << 20, int64_t{4} * config.hidden);
  config.context = size("n_positions", 1 << 26, 1024);
  config.norm_epsilon = json.number("layer_norm_epsilon", 0, 1, 1e-5);
  config.activation = read_activation(json, "activation_function", "gelu_new");
  config.tied = json.boolean("tie_word_embeddings", true);
  config.qkv_bias = config.out_bias = config.mlp_bias = true;
  if (config.hidden % config.heads != 0)
    json.refuse("n_embd " + std::to_string(config.hidden) + " is not a multiple of n_head " +
                std::to_string(config.heads));
  config.head_size = std::max<uint32_t>(1, config.hidden / config.heads);
  if (!json.boolean("scale_attn_weights", true) ||
      json.boolean("scale_attn_by_inverse_layer_idx", false))
    json.refuse("attention scaled in another way than by the head's size is not supported",
                ec::unsupported_model);
}

} // namespace

/// Learned positions, LayerNorm, biases everywhere, fused transposed weights. Source: transformers,
/// models/gpt2.
const decoder_recipe gpt2_recipe = {.architecture = "GPT2LMHeadModel",
                                    .model_type = "gpt2",
                                    .norm = norm_kind::layer,
                                    .positions = position_kind::learned,
                                    .transposed = true,
                                    .names = names(),
                                    .read = read};

} // namespace troupe::models
