#include "troupe/models/decoder_model.hpp"

#include <algorithm>
#include <filesystem>

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

/// End-of-sequence ids and the like from one of the two configuration files, where it has them.
void read_token_ids(const json_file& json, decoder_config& config) {
  if (auto ids = json.integers("eos_token_id", 0, INT32_MAX); !ids.empty())
    config.eos_tokens = std::move(ids);
  // Some folders give a list; its first entry begins a sequence.
  if (const auto ids = json.integers("bos_token_id", 0, INT32_MAX); !ids.empty())
    config.bos_token = ids.front();
}

dtype read_stored_type(const json_file& json) {
  const auto name = json.text("dtype", json.text("torch_dtype", "float32"));
  return name == "bfloat16" ? dtype::bf16 : name == "float16" ? dtype::fp16 : dtype::fp32;
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

caf::error check_weight(const decoder_model& model, const required_weight& wanted) {
  const auto* found = model.weights.find(wanted.name);
  if (found == nullptr)
    return caf::make_error(ec::bad_model, "'" + model.folder + "' lacks the tensor '" +
                                              wanted.name + "' of shape " +
                                              shape_text(wanted.shape));
  auto bad = [&](const std::string& what) {
    return caf::make_error(ec::bad_model, "'" + found->file->path() + "': tensor '" + wanted.name +
                                              "' is " + describe(*found) + what);
  };
  if (found->shape != wanted.shape)
    return bad(", but config.json asks for " + shape_text(wanted.shape));
  if (found->type != tensor_type::f32 && found->type != tensor_type::f16 &&
      found->type != tensor_type::bf16)
    return bad("; weights are read in F32, F16 and BF16 only");
  return {};
}

/// Collects what the layers' matrices are, all in one place.
class weight_list {
public:
  explicit weight_list(const decoder_model& model)
      : model_(model), transposed_(model.recipe->transposed) {}

  void vector(const std::string& name, uint64_t size) { all_.push_back({name, {size}}); }
  void table(const std::string& name, uint64_t rows, uint64_t columns) {
    all_.push_back({name, {rows, columns}});
  }

  void matrix(std::string_view pattern, uint32_t layer, uint64_t n, uint64_t k, bool bias) {
    const auto name = model_.name(pattern, layer);
    table(name + ".weight", transposed_ ? k : n, transposed_ ? n : k);
    if (bias)
      vector(name + ".bias", n);
  }

  void norm(std::string_view pattern, uint32_t layer, uint64_t size) {
    if (pattern.empty())
      return;
    const auto name = model_.name(pattern, layer);
    vector(name + ".weight", size);
    if (model_.recipe->norm == norm_kind::layer)
      vector(name + ".bias", size);
  }

  std::vector<required_weight> take() { return std::move(all_); }

private:
  const decoder_model& model_;
  bool transposed_;
  std::vector<required_weight> all_;
};

void list_layer(weight_list& list, const decoder_model& model, uint32_t layer) {
  const auto& c = model.config;
  const auto& names = model.recipe->names;
  list.norm(names.attention_norm, layer, c.hidden);
  if (names.qkv.size() == 1) {
    list.matrix(names.qkv[0], layer, c.q_width() + uint64_t{2} * c.kv_width(), c.hidden,
                c.qkv_bias);
  } else {
    list.matrix(names.qkv[0], layer, c.q_width(), c.hidden, c.qkv_bias);
    list.matrix(names.qkv[1], layer, c.kv_width(), c.hidden, c.qkv_bias);
    list.matrix(names.qkv[2], layer, c.kv_width(), c.hidden, c.qkv_bias);
  }
  list.norm(names.q_norm, layer, c.head_size);
  list.norm(names.k_norm, layer, c.head_size);
  list.matrix(names.out, layer, c.hidden, c.q_width(), c.out_bias);
  list.norm(names.mlp_norm, layer, c.hidden);
  if (model.recipe->gated())
    list.matrix(names.gate, layer, c.intermediate, c.hidden, c.mlp_bias);
  list.matrix(names.up, layer, c.intermediate, c.hidden, c.mlp_bias);
  list.matrix(names.down, layer, c.hidden, c.intermediate, c.mlp_bias);
}

} // namespace

std::string decoder_model::name(std::string_view pattern, uint32_t layer) const {
  auto text = prefix + std::string{pattern};
  if (auto place = text.find("{}"); place != std::string::npos)
    text.replace(place, 2, std::to_string(layer));
  return text;
}

uint64_t decoder_model::layer_parameters() const {
  const auto& c = config;
  const uint64_t attention = uint64_t{c.hidden} * (2 * c.q_width() + 2 * c.kv_width());
  return attention + uint64_t{c.hidden} * c.intermediate * (recipe->gated() ? 3 : 2);
}

uint64_t decoder_model::layer_bytes(quantization kept_as, uint64_t element) const {
  const auto& c = config;
  const auto bytes = [&](uint64_t n, uint64_t k) { return weight_bytes(kept_as, n, k, element); };
  return bytes(c.q_width() + uint64_t{2} * c.kv_width(), c.hidden) + bytes(c.hidden, c.q_width()) +
         bytes(uint64_t{c.intermediate} * (recipe->gated() ? 2 : 1), c.hidden) +
         bytes(c.hidden, c.intermediate);
}

uint64_t decoder_model::embedding_parameters() const {
  const uint64_t positions = recipe->positions == position_kind::learned ? config.context : 0;
  return (config.vocabulary + positions) * config.hidden;
}

uint64_t decoder_model::parameters() const {
  uint64_t sum = 0;
  for (const auto& w : required_weights(*this)) {
    uint64_t count = 1;
    for (auto size : w.shape)
      count *= size;
    sum += count;
  }
  return sum;
}

std::vector<required_weight> required_weights(const decoder_model& model) {
  const auto& c = model.config;
  const auto& names = model.recipe->names;
  weight_list list{model};
  list.table(model.name(names.embedding), c.vocabulary, c.hidden);
  if (model.recipe->positions == position_kind::learned)
    list.table(model.name(names.positions), c.context, c.hidden);
  for (uint32_t layer = 0; layer < c.layers; ++layer)
    list_layer(list, model, layer);
  list.norm(names.final_norm, 0, c.hidden);
  if (!c.tied)
    list.table(std::string{names.head}, c.vocabulary, c.hidden);
  return list.take();
}

caf::expected<decoder_model> read_configuration(const std::string& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    return caf::make_error(ec::bad_model,
                           "'" + folder + "' is not a folder: give the path of a model folder");
  const auto path = (fs::path{folder} / "config.json").string();
  if (!fs::exists(path, ignored))
    return caf::make_error(
        ec::bad_model, "'" + folder + "' has no config.json: it is no Hugging Face model folder");
  auto json = json_file::open(path);
  if (!json)
    return json.error();
  decoder_model model;
  model.folder = folder;
  auto recipe = find_recipe(*json);
  if (!recipe)
    return recipe.error();
  model.recipe = *recipe;
  if (json->has("quantization_config"))
    json->refuse("quantized weights (quantization_config) are not supported: give the folder with "
                 "the full weights",
                 ec::unsupported_model);
  model.recipe->read(*json, model.config);
  model.config.stored = read_stored_type(*json);
  read_token_ids(*json, model.config);
  if (auto err = json->error())
    return err;
  const auto generation = (fs::path{folder} / "generation_config.json").string();
  if (fs::exists(generation, ignored)) {
    auto more = json_file::open(generation);
    if (!more)
      return more.error();
    read_token_ids(*more, model.config);
    if (auto err = more->error())
      return err;
  }
  return model;
}

caf::expected<std::shared_ptr<const decoder_model>> open_decoder(const std::string& folder) {
  auto read = read_configuration(folder);
  if (!read)
    return read.error();
  auto model = std::make_shared<decoder_model>(std::move(*read));
  auto weights = checkpoint::open(folder);
  if (!weights)
    return weights.error();
  model->weights = std::move(*weights);
  const auto& prefixes = model->recipe->names.prefixes;
  for (auto prefix : prefixes) {
    model->prefix = prefix;
    if (model->weights.find(model->name(model->recipe->names.embedding)) != nullptr)
      break;
  }
  // Where none fits, the name that transformers writes is the one to miss.
  if (model->weights.find(model->name(model->recipe->names.embedding)) == nullptr)
    model->prefix = prefixes.front();
  for (const auto& wanted : required_weights(*model))
    if (auto err = check_weight(*model, wanted))
      return err;
  return std::shared_ptr<const decoder_model>{std::move(model)};
}

} // namespace troupe::models
