#include "troupe/models/tokenizer/conversion_parts.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "troupe/models/tokenizer/files.hpp"
#include "troupe/models/tokenizer/token_text.hpp"

namespace troupe::tokenizing {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

/// In the order in which transformers adds them.
constexpr std::array<const char*, 7> roles = {"bos_token", "eos_token", "unk_token", "sep_token",
                                              "pad_token", "cls_token", "mask_token"};

constexpr std::array<const char*, 2> more_roles = {"additional_special_tokens",
                                                   "extra_special_tokens"};

bool flag_in(const json::object& from, const char* key, bool otherwise) {
  auto v = from.if_contains(key);
  return v != nullptr && v->is_bool() ? v->get_bool() : otherwise;
}

added_token token_in(const json::object& from, bool special_by_default) {
  added_token t;
  t.text = token_text(from);
  t.special = flag_in(from, "special", special_by_default);
  t.single_word = flag_in(from, "single_word", false);
  t.lstrip = flag_in(from, "lstrip", false);
  t.rstrip = flag_in(from, "rstrip", false);
  t.normalized = flag_in(from, "normalized", !t.special);
  return t;
}

std::set<std::string> special_texts(const json::object& config) {
  std::set<std::string> out;
  for (auto key : roles)
    if (auto v = config.if_contains(key))
      out.insert(token_text(*v));
  for (auto key : more_roles)
    if (auto v = config.if_contains(key); v && v->is_array())
      for (auto& item : v->get_array())
        out.insert(token_text(item));
  return out;
}

/// Tokens by id from added_tokens_decoder: {"7": {"content": ...}}.
caf::expected<std::vector<added_token>> read_decoder(const json::value& listed,
                                                     const fs::path& file) {
  std::map<uint64_t, added_token> by_id;
  if (!listed.is_object())
    return unconvertible(file, "has an added_tokens_decoder that is no object");
  for (auto& item : listed.get_object()) {
    const auto key = item.key();
    uint64_t id = 0;
    const auto end = key.data() + key.size();
    auto read = std::from_chars(key.data(), end, id);
    if (read.ec != std::errc{} || read.ptr != end || !item.value().is_object())
      return unconvertible(file, "added_tokens_decoder: \"" + std::string{key.substr(0, 40)} +
                                     "\" is no id of a token, or what it names is no object");
    auto token = token_in(item.value().get_object(), false);
    token.id = id;
    by_id.insert_or_assign(id, std::move(token));
  }
  std::vector<added_token> out;
  for (auto& [id, token] : by_id)
    out.push_back(std::move(token));
  return out;
}

/// Tokens by id from added_tokens.json: {"<pad>": 7}.
caf::expected<std::vector<added_token>>
read_added(const json::object& listed, const json::object& config, const fs::path& file) {
  const auto special = special_texts(config);
  std::map<uint64_t, added_token> by_id;
  for (auto& item : listed) {
    const auto& value = item.value();
    if (!value.is_int64() || value.get_int64() < 0)
      return unconvertible(file, "gives \"" + std::string{item.key().substr(0, 80)} +
                                     "\" an id that is no whole number from 0");
    added_token t;
    t.text = std::string{item.key()};
    t.special = special.count(t.text) > 0;
    t.normalized = !t.special;
    t.id = static_cast<uint64_t>(value.get_int64());
    by_id.insert_or_assign(*t.id, std::move(t));
  }
  std::vector<added_token> out;
  for (auto& [id, token] : by_id)
    out.push_back(std::move(token));
  return out;
}

json::array pieces_of(const std::vector<template_piece>& pieces) {
  json::array out;
  for (const auto& p : pieces) {
    const bool is_text = p.text == "$A" || p.text == "$B";
    json::object inner;
    inner["id"] = is_text ? p.text.substr(1) : p.text;
    inner["type_id"] = p.type_id;
    json::object outer;
    outer[is_text ? "Sequence" : "SpecialToken"] = std::move(inner);
    out.push_back(std::move(outer));
  }
  return out;
}

} // namespace

caf::error unconvertible(const fs::path& file, const std::string& what) {
  return caf::make_error(ec::bad_model,
                         file.string() + " " + what +
                             "; save the tokenizer as tokenizer.json with transformers: "
                             "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)");
}

caf::expected<json::object> read_object(std::string_view text, const fs::path& file) {
  if (text.empty())
    return json::object{};
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 130;
  auto value = json::parse(json::string_view{text.data(), text.size()}, failed, {}, options);
  if (failed)
    return unconvertible(file, "is not valid JSON: " + failed.message());
  if (!value.is_object())
    return unconvertible(file, "does not hold a JSON object");
  return std::move(value.as_object());
}

std::optional<uint32_t> vocabulary::id_of(std::string_view text) const {
  auto found = ids_.find(text);
  return found == ids_.end() ? std::nullopt : std::optional{found->second};
}

json::object vocabulary::as_json() const {
  json::object out;
  out.reserve(ids_.size());
  for (const auto& [text, id] : ids_)
    out.emplace(text, id);
  return out;
}

caf::expected<older_settings> older_settings::read(const fs::path& folder, json::object config,
                                                   json::object map) {
  older_settings out;
  out.folder_ = folder;
  out.config_ = std::move(config);
  if (auto listed = out.config_.if_contains("added_tokens_decoder")) {
    auto tokens = read_decoder(*listed, folder / "tokenizer_config.json");
    if (!tokens)
      return tokens.error();
    out.listed_ = std::move(*tokens);
    return out;
  }
  for (auto& item : map)
    out.config_[item.key()] = std::move(item.value());
  const auto added_path = folder / "added_tokens.json";
  auto text = read_text_if_there(added_path, max_settings_bytes);
  if (!text)
    return text.error();
  auto object = read_object(*text, added_path);
  if (!object)
    return object.error();
  auto tokens = read_added(*object, out.config_, added_path);
  if (!tokens)
    return tokens.error();
  out.listed_ = std::move(*tokens);
  return out;
}

void older_settings::role_by_default(const char* role, std::string_view text) {
  if (!config_.contains(role))
    config_[role] = json::string_view{text.data(), text.size()};
}

void older_settings::fairseq_roles_by_default() {
  for (auto [role, text] : {std::pair{"bos_token", "<s>"},
                            {"eos_token", "</s>"},
                            {"sep_token", "</s>"},
                            {"cls_token", "<s>"},
                            {"unk_token", "<unk>"},
                            {"pad_token", "<pad>"},
                            {"mask_token", "<mask>"}})
    role_by_default(role, text);
  strips_before("mask_token");
}

void older_settings::strips_before(const char* role) {
  stripping_.emplace_back(role);
}

std::string older_settings::text_of(const char* role) const {
  auto v = config_.if_contains(role);
  return v == nullptr ? std::string{} : token_text(*v);
}

bool older_settings::flag(const char* key, bool otherwise) const {
  return flag_in(config_, key, otherwise);
}

std::vector<added_token> older_settings::added(std::vector<added_token> model) const {
  auto out = std::move(model);
  std::unordered_map<std::string, size_t> places;
  for (size_t i = 0; i < out.size(); ++i)
    places.emplace(out[i].text, i);
  std::set<std::string_view> listed;
  // A token that is already there keeps its place and takes the later flags.
  auto add = [&](const added_token& t) {
    if (t.text.empty())
      return;
    auto [place, fresh] = places.emplace(t.text, out.size());
    if (fresh)
      out.push_back(t);
    else
      out[place->second] = t;
  };
  for (const auto& t : listed_) {
    listed.insert(t.text);
    add(t);
  }
  auto add_special = [&](const json::value& v, bool strips) {
    added_token t;
    t.text = token_text(v);
    t.lstrip = strips;
    const bool known =
        listed.count(t.text) > 0 || (v.is_string() && !strips && places.count(t.text) > 0);
    if (known)
      return;
    if (auto object = v.if_object()) {
      t = token_in(*object, true);
      t.special = true;
    }
    add(t);
  };
  for (auto key : roles)
    if (auto v = config_.if_contains(key))
      add_special(*v, std::find(stripping_.begin(), stripping_.end(), key) != stripping_.end());
  for (auto key : more_roles)
    if (auto v = config_.if_contains(key); v && v->is_array())
      for (auto& item : v->get_array())
        add_special(item, false);
  return out;
}

caf::expected<assembly> assembly::of(const older_settings& settings, const vocabulary& words,
                                     std::vector<added_token> model_tokens,
                                     const fs::path& source) {
  assembly out;
  out.words_ = &words;
  out.source_ = source;
  // As Hugging Face's tokenizers give ids: behind the model's tokens, whatever a file wishes.
  uint64_t next = words.size();
  std::optional<uint32_t> highest;
  for (const auto& t : settings.added(std::move(model_tokens))) {
    auto id = words.id_of(t.text);
    if (!id) {
      id = static_cast<uint32_t>(highest && *highest >= next ? *highest + 1 : next);
      out.new_ids_.emplace(t.text, *id);
    }
    highest = std::max(highest.value_or(0), *id);
    if (t.id && *t.id != *id)
      return unconvertible(source, "puts the token \"" + t.text.substr(0, 80) + "\" at id " +
                                       std::to_string(*id) +
                                       ", but the list of added tokens beside it says " +
                                       std::to_string(*t.id) + ": they do not belong together");
    json::object token;
    token["id"] = *id;
    token["content"] = t.text;
    token["single_word"] = t.single_word;
    token["lstrip"] = t.lstrip;
    token["rstrip"] = t.rstrip;
    token["normalized"] = t.normalized;
    token["special"] = t.special;
    out.added_.push_back(std::move(token));
  }
  return out;
}

std::optional<uint32_t> assembly::id_of(std::string_view text) const {
  if (auto id = words_->id_of(text))
    return id;
  auto found = new_ids_.find(std::string{text});
  return found == new_ids_.end() ? std::nullopt : std::optional{found->second};
}

caf::expected<json::object> assembly::joined_by(const std::vector<template_piece>& single,
                                                const std::vector<template_piece>& pair) const {
  json::object specials;
  for (const auto* pieces : {&single, &pair}) {
    for (const auto& p : *pieces) {
      if (p.text == "$A" || p.text == "$B")
        continue;
      auto id = id_of(p.text);
      if (!id)
        return unconvertible(source_, "has no token \"" + p.text.substr(0, 80) +
                                          "\", which its class puts around every text");
      json::object token;
      token["id"] = p.text;
      token["ids"] = json::array(1, json::value(*id));
      token["tokens"] = json::array(1, json::value(p.text));
      specials[p.text] = std::move(token);
    }
  }
  auto out = part("TemplateProcessing");
  out["single"] = pieces_of(single);
  out["pair"] = pieces_of(pair);
  out["special_tokens"] = std::move(specials);
  return out;
}

std::string assembly::text(json::value model, json::value normalizer, json::value pre_tokenizer,
                           json::value post_processor, json::value decoder) const {
  json::object out;
  out["version"] = "1.0";
  out["truncation"] = nullptr;
  out["padding"] = nullptr;
  out["added_tokens"] = added_;
  out["normalizer"] = std::move(normalizer);
  out["pre_tokenizer"] = std::move(pre_tokenizer);
  out["post_processor"] = std::move(post_processor);
  out["decoder"] = std::move(decoder);
  out["model"] = std::move(model);
  return json::serialize(out);
}

json::object part(std::string_view type) {
  json::object out;
  out["type"] = json::string_view{type.data(), type.size()};
  return out;
}

json::object sequence(const char* list, json::array parts) {
  json::object out;
  out["type"] = "Sequence";
  out[list] = std::move(parts);
  return out;
}

} // namespace troupe::tokenizing
