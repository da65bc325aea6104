#include "troupe/models/tokenizer/conversion.hpp"

#include <algorithm>
#include <array>

#include "troupe/models/tokenizer/conversion_classes.hpp"
#include "troupe/models/tokenizer/files.hpp"

namespace troupe::tokenizing {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

struct tokenizer_class {
  std::string_view name; ///< Without "Fast".
  caf::expected<converted> (*convert)(older_settings);
};

/// Source: transformers 4.57, convert_slow_tokenizer.py, SLOW_TO_FAST_CONVERTERS.
constexpr auto classes = std::to_array<tokenizer_class>({
    {"GPT2Tokenizer", convert_gpt2},
    {"CodeGenTokenizer", convert_gpt2},
    {"RobertaTokenizer", convert_roberta},
    {"BartTokenizer", convert_roberta},
    {"LongformerTokenizer", convert_roberta},
    {"Qwen2Tokenizer", convert_qwen2},
    {"LlamaTokenizer", convert_llama},
    {"CodeLlamaTokenizer", convert_code_llama},
    {"T5Tokenizer", convert_t5},
    {"XLMRobertaTokenizer", convert_xlm_roberta},
    {"BertTokenizer", convert_bert},
    {"DistilBertTokenizer", convert_bert},
    {"ElectraTokenizer", convert_bert},
});

struct model_type {
  std::string_view name;
  std::string_view tokenizer;
};

/// For folders that name no class. Source: transformers, tokenization_auto.py.
constexpr auto model_types = std::to_array<model_type>({
    {"gpt2", "GPT2Tokenizer"},
    {"gpt_neo", "GPT2Tokenizer"},
    {"gptj", "GPT2Tokenizer"},
    {"opt", "GPT2Tokenizer"},
    {"roberta", "RobertaTokenizer"},
    {"bart", "BartTokenizer"},
    {"longformer", "LongformerTokenizer"},
    {"qwen2", "Qwen2Tokenizer"},
    {"qwen2_moe", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},
    {"qwen3_moe", "Qwen2Tokenizer"},
    {"llama", "LlamaTokenizer"},
    {"mistral", "LlamaTokenizer"},
    {"mixtral", "LlamaTokenizer"},
    {"phi3", "LlamaTokenizer"},
    {"t5", "T5Tokenizer"},
    {"mt5", "T5Tokenizer"},
    {"xlm-roberta", "XLMRobertaTokenizer"},
    {"bert", "BertTokenizer"},
    {"distilbert", "DistilBertTokenizer"},
    {"electra", "ElectraTokenizer"},
});

constexpr std::array<const char*, 6> vocabulary_files = {
    "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "vocab.txt"};

std::string text_in(const json::object& from, const char* key) {
  auto value = from.if_contains(key);
  if (value == nullptr || !value->is_string())
    return {};
  return {value->get_string().data(), value->get_string().size()};
}

/// What names the class: the first of the places that says anything.
std::string class_of(const json::object& config, const json::object& model) {
  auto name = text_in(config, "tokenizer_class");
  if (name.empty())
    name = text_in(model, "tokenizer_class");
  if (name.ends_with("Fast"))
    name.resize(name.size() - 4);
  // This one stands for any tokenizer.json, so it says nothing about older files.
  if (!name.empty() && name != "PreTrainedTokenizer")
    return name;
  const auto type = text_in(model, "model_type");
  const auto found = std::find_if(model_types.begin(), model_types.end(),
                                  [&](const model_type& m) { return m.name == type; });
  return found == model_types.end() ? std::string{} : std::string{found->tokenizer};
}

std::string known_classes() {
  std::string out;
  for (const auto& c : classes)
    out.append(out.empty() ? "" : ", ").append(c.name);
  return out;
}

bool has_vocabulary(const fs::path& folder) {
  std::error_code ignored;
  return std::any_of(vocabulary_files.begin(), vocabulary_files.end(),
                     [&](const char* name) { return fs::exists(folder / name, ignored); });
}

} // namespace

caf::expected<converted> convert(const fs::path& folder, std::string_view config_json,
                                 std::string_view map_json) {
  if (!has_vocabulary(folder))
    return unconvertible(folder / "tokenizer.json",
                         "is missing, and so is every older form of it (vocab.json with "
                         "merges.txt, tokenizer.model, vocab.txt): the model folder has no "
                         "tokenizer");
  const auto config_path = folder / "tokenizer_config.json";
  auto config = read_object(config_json, config_path);
  if (!config)
    return config.error();
  auto map = read_object(map_json, folder / "special_tokens_map.json");
  if (!map)
    return map.error();
  const auto model_path = folder / "config.json";
  auto model_text = read_text_if_there(model_path, max_settings_bytes);
  if (!model_text)
    return model_text.error();
  auto model = read_object(*model_text, model_path);
  if (!model)
    return model.error();
  const auto name = class_of(*config, *model);
  if (name.empty())
    return unconvertible(config_path, "has no tokenizer_class, and the model_type of config.json "
                                      "does not tell it either; known are " +
                                          known_classes());
  const auto found = std::find_if(classes.begin(), classes.end(),
                                  [&](const tokenizer_class& c) { return c.name == name; });
  if (found == classes.end())
    return unconvertible(config_path, "names the tokenizer_class \"" + name.substr(0, 80) +
                                          "\", whose older files are not converted; known are " +
                                          known_classes());
  auto settings = older_settings::read(folder, std::move(*config), std::move(*map));
  if (!settings)
    return settings.error();
  return found->convert(std::move(*settings));
}

caf::expected<converted> convert(const fs::path& folder) {
  auto config = read_text_if_there(folder / "tokenizer_config.json", max_settings_bytes);
  if (!config)
    return config.error();
  auto map = read_text_if_there(folder / "special_tokens_map.json", max_settings_bytes);
  if (!map)
    return map.error();
  return convert(folder, *config, *map);
}

} // namespace troupe::tokenizing
