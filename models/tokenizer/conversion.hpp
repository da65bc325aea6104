#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "troupe/config/error.hpp"

namespace troupe::tokenizing {

/// What a folder with an older form of tokenizer amounts to.
struct converted {
  std::string json;   ///< The text of a tokenizer.json.
  std::string config; ///< tokenizer_config.json, completed by what its class has as defaults.
  std::string source; ///< Path of the vocabulary, for messages.
};

/// Makes a tokenizer.json of vocab.json + merges.txt, of a SentencePiece model or of vocab.txt, as
/// the converters of transformers 4.57 do. Which one is told by `tokenizer_class` of
/// tokenizer_config.json or config.json, else by `model_type` of config.json. Reads the folder and
/// writes nothing.
/// @param config_json Text of tokenizer_config.json; empty where there is none.
/// @param map_json    Text of special_tokens_map.json; empty where there is none.
/// Errors: ec::bad_model with file, place and remedy.
caf::expected<converted> convert(const std::filesystem::path& folder, std::string_view config_json,
                                 std::string_view map_json);

/// As above; reads the two files too.
caf::expected<converted> convert(const std::filesystem::path& folder);

} // namespace troupe::tokenizing
