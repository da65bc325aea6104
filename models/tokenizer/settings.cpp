#include "troupe/models/tokenizer/settings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include <boost/json.hpp>

#include "troupe/models/tokenizer/token_text.hpp"

namespace troupe::tokenizing {

namespace json = boost::json;

namespace {

struct role_name {
  const char* key;
  special_token special_roles::*member;
};

constexpr std::array<role_name, 7> role_names = {{{"bos_token", &special_roles::bos},
                                                  {"eos_token", &special_roles::eos},
                                                  {"unk_token", &special_roles::unk},
                                                  {"sep_token", &special_roles::sep},
                                                  {"pad_token", &special_roles::pad},
                                                  {"cls_token", &special_roles::cls},
                                                  {"mask_token", &special_roles::mask}}};

/// Transformers writes this or 1e30 for "no limit".
constexpr double no_limit = 1e15;

caf::expected<json::value> parse(std::string_view text, const std::string& name) {
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 130;
  auto value = json::parse(json::string_view{text.data(), text.size()}, failed, {}, options);
  if (failed)
    return caf::make_error(ec::bad_model, name + " is not valid JSON: " + failed.message());
  return value;
}

caf::expected<json::object> parse_object(std::string_view text, const std::string& name) {
  if (text.empty())
    return json::object{};
  auto value = parse(text, name);
  if (!value)
    return value.error();
  if (!value->is_object())
    return caf::make_error(ec::bad_model, name + " does not hold a JSON object");
  return std::move(value->as_object());
}

void read_roles(const json::object& from, special_roles& roles) {
  for (auto& [key, member] : role_names)
    if (auto v = from.if_contains(key); v && !(roles.*member))
      (roles.*member).text = token_text(*v);
  for (auto key : {"additional_special_tokens", "extra_special_tokens"}) {
    auto v = from.if_contains(key);
    if (v == nullptr)
      continue;
    auto add = [&](const json::value& item) {
      auto text = token_text(item);
      auto same = [&](const special_token& t) { return t.text == text; };
      if (!text.empty() && std::none_of(roles.additional.begin(), roles.additional.end(), same))
        roles.additional.push_back({std::move(text), std::nullopt});
    };
    if (auto list = v->if_array())
      std::for_each(list->begin(), list->end(), add);
    else if (auto named = v->if_object())
      for (auto& item : *named)
        add(item.value());
  }
}

/// The tokens of added_tokens_decoder by id, then the roles' texts, which count only where the
/// vocabulary does not list them as added.
/// Source: transformers, tokenization_utils_tokenizers.py, TokenizersBackend.__init__.
std::string added_tokens(const json::object& config, const special_roles& roles) {
  json::array out;
  if (auto listed = config.if_contains("added_tokens_decoder"); listed && listed->is_object()) {
    std::map<uint64_t, const json::value*> by_id;
    for (auto& item : listed->get_object()) {
      auto key = item.key();
      uint64_t id = 0;
      if (std::from_chars(key.data(), key.data() + key.size(), id).ec == std::errc{})
        by_id.emplace(id, &item.value());
    }
    for (auto& [id, token] : by_id)
      if (token->is_object())
        out.push_back(*token);
  }
  auto add_role = [&](const special_token& t) {
    if (t)
      out.push_back({{"content", t.text}, {"special", true}, {"if_absent", true}});
  };
  for (auto& [key, member] : role_names)
    add_role(roles.*member);
  std::for_each(roles.additional.begin(), roles.additional.end(), add_role);
  return json::serialize(out);
}

std::optional<size_t> read_limit(const json::value& v) {
  if (!v.is_number())
    return std::nullopt;
  auto limit = v.to_number<double>();
  if (!(limit >= 1 && limit < no_limit))
    return std::nullopt;
  return static_cast<size_t>(limit);
}

} // namespace

caf::expected<tokenizer_settings> read_settings(std::string_view config_json,
                                                const std::string& config_name,
                                                std::string_view map_json,
                                                const std::string& map_name) {
  auto config = parse_object(config_json, config_name);
  if (!config)
    return config.error();
  auto map = parse_object(map_json, map_name);
  if (!map)
    return map.error();
  tokenizer_settings settings;
  read_roles(*config, settings.roles);
  read_roles(*map, settings.roles);
  settings.added_tokens = added_tokens(*config, settings.roles);
  if (auto v = config->if_contains("model_max_length"))
    settings.model_max_length = read_limit(*v);
  if (auto v = config->if_contains("padding_side"); v && v->is_string())
    settings.pads_left = v->get_string() == "left";
  if (auto v = config->if_contains("clean_up_tokenization_spaces"); v && v->is_bool())
    settings.cleans_up_spaces = v->get_bool();
  return settings;
}

caf::expected<std::vector<std::pair<std::string, std::string>>>
read_templates(std::string_view config_json, const std::string& config_name) {
  auto config = parse_object(config_json, config_name);
  if (!config)
    return config.error();
  std::vector<std::pair<std::string, std::string>> found;
  auto text = [](const json::value& v) {
    return std::string{v.get_string().data(), v.get_string().size()};
  };
  auto v = config->if_contains("chat_template");
  if (v == nullptr || v->is_null())
    return found;
  if (v->is_string()) {
    found.emplace_back("default", text(*v));
  } else if (auto list = v->if_array()) {
    for (auto& item : *list) {
      auto object = item.if_object();
      auto name = object ? object->if_contains("name") : nullptr;
      auto source = object ? object->if_contains("template") : nullptr;
      if (!name || !source || !name->is_string() || !source->is_string())
        return caf::make_error(ec::bad_model, config_name + ": chat_template lists something that "
                                                            "has no `name` and `template`");
      found.emplace_back(text(*name), text(*source));
    }
  } else {
    return caf::make_error(ec::bad_model,
                           config_name + ": chat_template is neither a text nor a list");
  }
  return found;
}

std::string roles_as_json(const special_roles& roles) {
  json::object out;
  for (auto& [key, member] : role_names)
    if (auto& token = roles.*member)
      out[key] = token.text;
  return json::serialize(out);
}

bool has_tools(std::string_view context_json) {
  auto context = parse(context_json, "the chat's context");
  if (!context || !context->is_object())
    return false;
  auto tools = context->get_object().if_contains("tools");
  return tools != nullptr && !tools->is_null();
}

} // namespace troupe::tokenizing
