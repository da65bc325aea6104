#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/json.hpp>

#include "troupe/config/error.hpp"

/// What the conversions of older tokenizers share.
namespace troupe::tokenizing {

/// Bounds on what a folder may make us hold.
constexpr size_t max_vocabulary_bytes = size_t{256} << 20;
constexpr size_t max_settings_bytes = size_t{64} << 20;
constexpr size_t max_vocabulary = size_t{1} << 21;
constexpr size_t max_merges = size_t{1} << 23;

/// ec::bad_model: what is wrong with which file, and how to get a tokenizer.json instead.
caf::error unconvertible(const std::filesystem::path& file, const std::string& what);

/// The object in a file's text; empty text reads as an empty object. Errors: ec::bad_model.
caf::expected<boost::json::object> read_object(std::string_view text,
                                               const std::filesystem::path& file);

/// The texts of a vocabulary and their ids, which need not be without gaps.
class vocabulary {
public:
  /// A known text gets the new id, as in a Python dict.
  void set(std::string text, uint32_t id) { ids_.insert_or_assign(std::move(text), id); }
  std::optional<uint32_t> id_of(std::string_view text) const;
  size_t size() const { return ids_.size(); }
  boost::json::object as_json() const;

private:
  struct hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, uint32_t, hash, std::equal_to<>> ids_;
};

/// A token that is found in a text before the model sees it.
struct added_token {
  std::string text;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = true;
  std::optional<uint64_t> id; ///< Where the folder says so.
};

/// What the files beside a vocabulary say, as one class of tokenizers reads them.
class older_settings {
public:
  /// Reads added_tokens.json, too. As in transformers, that file and special_tokens_map.json count
  /// only where tokenizer_config.json has no added_tokens_decoder. Errors: ec::bad_model.
  static caf::expected<older_settings> read(const std::filesystem::path& folder,
                                            boost::json::object config, boost::json::object map);

  /// Gives a role the text that its class has for it, where no file names the role.
  void role_by_default(const char* role, std::string_view text);
  /// The roles of fairseq's models (RoBERTa, XLM-R), and that <mask> takes the space before it.
  void fairseq_roles_by_default();
  /// Has a role's token take in the white space before it, where a file gives no flags.
  void strips_before(const char* role);

  /// The text of a role, e.g. "bos_token"; empty where it has none.
  std::string text_of(const char* role) const;
  /// A flag of tokenizer_config.json; `otherwise` where it is absent or null.
  bool flag(const char* key, bool otherwise) const;

  /// Tokens in the order in which transformers adds them: `model`, those listed by id, the roles.
  std::vector<added_token> added(std::vector<added_token> model) const;

  const std::filesystem::path& folder() const { return folder_; }
  boost::json::object& config() { return config_; }
  const boost::json::object& config() const { return config_; }
  /// Tokens with an id: added_tokens_decoder, else added_tokens.json; by id.
  const std::vector<added_token>& listed() const { return listed_; }

private:
  std::filesystem::path folder_;
  boost::json::object config_;
  std::vector<added_token> listed_;
  std::vector<std::string> stripping_;
};

/// One piece of a post-processor: a special token's text, or "$A" and "$B".
struct template_piece {
  std::string text;
  int type_id = 0;
};

/// Puts a tokenizer.json together, once model and added tokens are known.
class assembly {
public:
  /// Errors: ec::bad_model when a listed token cannot have its id.
  static caf::expected<assembly> of(const older_settings& settings, const vocabulary& words,
                                    std::vector<added_token> model_tokens,
                                    const std::filesystem::path& source);

  /// The id of any token; of an added one, too.
  std::optional<uint32_t> id_of(std::string_view text) const;

  /// Errors: ec::bad_model when a special token has no id.
  caf::expected<boost::json::object> joined_by(const std::vector<template_piece>& single,
                                               const std::vector<template_piece>& pair) const;

  /// Parts are `null` where there is none.
  std::string text(boost::json::value model, boost::json::value normalizer,
                   boost::json::value pre_tokenizer, boost::json::value post_processor,
                   boost::json::value decoder) const;

private:
  const vocabulary* words_ = nullptr;
  std::unordered_map<std::string, uint32_t> new_ids_;
  boost::json::array added_;
  std::filesystem::path source_;
};

/// {"type": type}, the beginning of any part of a tokenizer.json.
boost::json::object part(std::string_view type);

/// A "Sequence" of parts, under the name that its kind of part has for its list.
boost::json::object sequence(const char* list, boost::json::array parts);

} // namespace troupe::tokenizing
