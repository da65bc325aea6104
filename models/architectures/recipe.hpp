#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/models/activation.hpp"
#include "troupe/models/loading/json_file.hpp"
#include "troupe/models/rope.hpp"

/// What distinguishes one decoder architecture from another. The layers themselves are written once
/// (decoder_stage.cpp) and ask these tables; a new architecture is a file beside this one with a
/// `decoder_recipe`, and a line in registry.cpp.
namespace troupe::models {

enum class norm_kind : uint8_t { rms, layer };
enum class position_kind : uint8_t { rotary, learned };
/// Names as transformers' ACT2FN: silu; gelu; gelu_new, gelu_pytorch_tanh; relu.
enum class activation_function : uint8_t { silu, gelu, gelu_tanh, relu };

/// A model's numbers, checked: what config.json and generation_config.json say.
struct decoder_config {
  uint32_t hidden = 0;
  uint32_t intermediate = 0;
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  uint32_t vocabulary = 0;
  uint32_t context = 0;
  double norm_epsilon = 1e-5;
  activation_function activation = activation_function::silu;
  bool tied = false; ///< The logits' weight is the embedding.
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  std::vector<uint32_t> windows; ///< Per layer: positions seen, 0 = all. Empty: all layers see all.
  rope_spec rope;                ///< Rotary models only.
  dtype stored = dtype::fp32;    ///< What `auto` stands for.
  std::vector<int32_t> eos_tokens;
  int32_t bos_token = -1;

  uint32_t window(uint32_t layer) const { return layer < windows.size() ? windows[layer] : 0; }
  uint32_t q_width() const { return heads * head_size; }
  uint32_t kv_width() const { return kv_heads * head_size; }
};

/// Where the weights are; "{}" stands for the layer's number. An empty name: there is none.
struct decoder_names {
  /// Tried in this order before every name; the first one under which the embedding is found.
  std::vector<std::string_view> prefixes;
  std::string_view embedding;
  std::string_view positions; ///< Learned positions.
  std::string_view final_norm;
  std::string_view head; ///< Without prefix.
  std::string_view attention_norm;
  std::vector<std::string_view> qkv; ///< q, k, v apart, or one fused matrix.
  std::string_view out;
  std::string_view q_norm; ///< Norms of each head before the rotation.
  std::string_view k_norm;
  std::string_view mlp_norm;
  std::string_view gate; ///< Empty: the MLP is not gated.
  std::string_view up;
  std::string_view down;
};

struct decoder_recipe {
  std::string_view architecture; ///< As in config.json's `architectures`.
  std::string_view model_type;   ///< Where `architectures` is missing.
  norm_kind norm = norm_kind::rms;
  position_kind positions = position_kind::rotary;
  bool transposed = false; ///< Matrices are stored [in, out], as GPT-2's Conv1D.
  decoder_names names;
  /// Fills the configuration from config.json; problems are left in `json.error()`.
  void (*read)(const json_file& json, decoder_config& config) = nullptr;

  bool gated() const { return !names.gate.empty(); }
};

/// Every architecture we have.
std::span<const decoder_recipe* const> decoder_recipes();
/// "LlamaForCausalLM, MistralForCausalLM, ...", for messages.
std::string supported_architectures();
/// The recipe that config.json asks for. Errors: ec::unsupported_model, listing what is supported.
caf::expected<const decoder_recipe*> find_recipe(const json_file& json);

/// The names that Llama introduced and most others took over.
decoder_names llama_names();
/// Sizes, norm, activation, tying and rotation under the field names that Llama introduced.
/// `default_context` stands for a missing max_position_embeddings.
void read_llama_fields(const json_file& json, decoder_config& config, uint32_t default_context,
                       double default_rope_base = 10000);
/// Windows as Qwen has them: `use_sliding_window` with `layer_types` or `max_window_layers`.
void read_layer_windows(const json_file& json, decoder_config& config);
activation_function read_activation(const json_file& json, std::string_view key,
                                    std::string fallback);

} // namespace troupe::models
