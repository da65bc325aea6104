#include "troupe/models/architectures/recipe.hpp"

#include <array>

namespace troupe::models {

namespace {

uint32_t size_field(const json_file& json, std::string_view key, int64_t high,
                    std::optional<int64_t> fallback = {}) {
  return static_cast<uint32_t>(json.integer(key, 1, high, fallback));
}

} // namespace

decoder_names llama_names() {
  return {.prefixes = {"model.", ""},
          .embedding = "embed_tokens.weight",
          .positions = {},
          .final_norm = "norm",
          .head = "lm_head.weight",
          .attention_norm = "layers.{}.input_layernorm",
          .qkv = {"layers.{}.self_attn.q_proj", "layers.{}.self_attn.k_proj",
                  "layers.{}.self_attn.v_proj"},
          .out = "layers.{}.self_attn.o_proj",
          .q_norm = {},
          .k_norm = {},
          .mlp_norm = "layers.{}.post_attention_layernorm",
          .gate = "layers.{}.mlp.gate_proj",
          .up = "layers.{}.mlp.up_proj",
          .down = "layers.{}.mlp.down_proj"};
}

activation_function read_activation(const json_file& json, std::string_view key,
                                    std::string fallback) {
  struct entry {
    std::string_view name;
    activation_function function;
  };
  static constexpr std::array<entry, 6> known = {
      {{"silu", activation_function::silu},
       {"swish", activation_function::silu},
       {"gelu", activation_function::gelu},
       {"gelu_new", activation_function::gelu_tanh},
       {"gelu_pytorch_tanh", activation_function::gelu_tanh},
       {"relu", activation_function::relu}}};
  const auto name = json.text(key, std::move(fallback));
  for (const auto& k : known)
    if (k.name == name)
      return k.function;
  json.refuse("activation '" + name +
                  "' is not supported; supported are silu, gelu, gelu_new, gelu_pytorch_tanh, relu",
              ec::unsupported_model);
  return activation_function::silu;
}

void read_llama_fields(const json_file& json, decoder_config& config, uint32_t default_context,
                       double default_rope_base) {
  config.vocabulary = size_field(json, "vocab_size", 1 << 24);
  config.hidden = size_field(json, "hidden_size", 1 << 17);
  config.intermediate = size_field(json, "intermediate_size", 1 << 20);
  config.layers = size_field(json, "num_hidden_layers", 1024);
  config.heads = size_field(json, "num_attention_heads", 4096);
  config.kv_heads = size_field(json, "num_key_value_heads", 4096, config.heads);
  const bool has_head_size = json.has("head_dim");
  config.head_size =
      size_field(json, "head_dim", 1 << 12, std::max<uint32_t>(1, config.hidden / config.heads));
  config.context = size_field(json, "max_position_embeddings", 1 << 26, default_context);
  config.norm_epsilon = json.number("rms_norm_eps", 0, 1, 1e-6);
  config.activation = read_activation(json, "hidden_act", "silu");
  config.tied = json.boolean("tie_word_embeddings", false);
  if (!has_head_size && config.hidden % config.heads != 0)
    json.refuse("hidden_size " + std::to_string(config.hidden) +
                " is not a multiple of num_attention_heads " + std::to_string(config.heads));
  if (config.heads % config.kv_heads != 0)
    json.refuse("num_attention_heads " + std::to_string(config.heads) +
                " is not a multiple of num_key_value_heads " + std::to_string(config.kv_heads));
  if (config.head_size % 2 != 0)
    json.refuse("heads of " + std::to_string(config.head_size) +
                " dimensions cannot be rotated: the number is odd");
  config.rope = read_rope(json, config.head_size, config.context, default_rope_base);
  // The base grows with the sequence, so that one may be `factor` times as long as in training.
  if (config.rope.kind == rope_kind::dynamic)
    config.context =
        static_cast<uint32_t>(std::min(config.rope.factor * config.context, double(1 << 26)));
}

void read_layer_windows(const json_file& json, decoder_config& config) {
  if (!json.boolean("use_sliding_window", false) || !json.has("sliding_window"))
    return;
  const auto window = size_field(json, "sliding_window", 1 << 26);
  const auto first = json.integer("max_window_layers", 0, 1 << 20, 28);
  config.windows.assign(config.layers, 0);
  const auto types = json.texts("layer_types");
  if (!types.empty() && types.size() != config.layers) {
    json.refuse("field 'layer_types' lists " + std::to_string(types.size()) +
                " layers instead of " + std::to_string(config.layers));
    return;
  }
  for (uint32_t i = 0; i < config.layers; ++i) {
    bool slides = i >= first;
    if (!types.empty()) {
      slides = types[i] == "sliding_attention";
      if (!slides && types[i] != "full_attention")
        json.refuse("layer type '" + types[i] +
                        "' is not supported; supported are full_attention, sliding_attention",
                    ec::unsupported_model);
    }
    config.windows[i] = slides ? window : 0;
  }
}

} // namespace troupe::models
