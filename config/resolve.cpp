#include "troupe/config/resolve.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <system_error>

#include "troupe/config/properties.hpp"

extern char** environ; // POSIX

namespace troupe::config {

namespace {

/// Keys of LMI that have no effect here, so that their users aren't told of a misspelling.
constexpr auto lmi_keys = std::to_array<std::string_view>({"management_address",
                                                           "cluster_address",
                                                           "load_models",
                                                           "model_store",
                                                           "wait_model_loading",
                                                           "allow_multi_status",
                                                           "max_dynamic_batch_size",
                                                           "max_idle_time",
                                                           "reserved_memory_mb",
                                                           "required_memory_mb",
                                                           "gpu.reserved_memory_mb",
                                                           "gpu.required_memory_mb",
                                                           "load_on_devices",

                                                           "keystore",
                                                           "keystore_pass",
                                                           "keystore_type",
                                                           "model_url_pattern",
                                                           "error_rate_wlm",
                                                           "error_rate_server",
                                                           "error_rate_model",
                                                           "error_rate_any",
                                                           "plugin_folder",
                                                           "use_native_io",
                                                           "io_ratio",
                                                           "minWorkers",
                                                           "maxWorkers",
                                                           "gpu.minWorkers",
                                                           "gpu.maxWorkers",
                                                           "cpu.minWorkers",
                                                           "cpu.maxWorkers",
                                                           "min_workers",
                                                           "max_workers",
                                                           "log_request_metric",
                                                           "metrics_aggregation",
                                                           "translatorFactory",
                                                           "translator",
                                                           "application",
                                                           "download_dir",
                                                           "fail_fast",
                                                           "health_check_override",
                                                           "option.handler",
                                                           "option.pythonExecutable",
                                                           "option.enable_venv",
                                                           "option.env",
                                                           "option.revision",
                                                           "option.quantize",
                                                           "option.device_map",
                                                           "option.parallel_loading",
                                                           "option.bedrock_compat",
                                                           "option.load_in_8bit",
                                                           "option.load_in_4bit",
                                                           "option.max_sparsity",
                                                           "option.max_splits",
                                                           "option.disable_flash_attn",
                                                           "option.multi_gpu",
                                                           "option.waiting_steps",
                                                           "option.device_id",
                                                           "option.pipeline_parallel_degree",
                                                           "option.cluster_size",
                                                           "option.is_peft_model",
                                                           "option.enable_lora",
                                                           "option.max_loras",
                                                           "option.max_lora_rank",
                                                           "option.max_cpu_loras",
                                                           "option.async_mode",
                                                           "option.normalize",
                                                           "option.chat_template",
                                                           "option.enable_auto_tool_choice",
                                                           "option.tool_call_parser",
                                                           "option.speculative_draft_model",
                                                           "option.draft_model_id",
                                                           "option.spec_length",
                                                           "option.max_output_size",
                                                           "option.gpu_memory_utilization"});

bool contains_folded(std::string_view text, std::string_view part) {
  auto equal = [](char a, char b) { return (a | 0x20) == b; };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), equal) != text.end();
}

/// "key=value" for a message, without what may be a secret.
std::string shown(const std::string& key, const std::string& text) {
  for (auto part : {"token", "pass", "secret", "credential"})
    if (contains_folded(key, part))
      return key + "=***";
  constexpr size_t longest = 80;
  return key + '=' + (text.size() > longest ? text.substr(0, longest) + "..." : text);
}

std::string lowered(std::string_view text) {
  std::string out{text};
  for (char& c : out)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

/// The text found for one option so far.
struct candidate {
  std::string text;
  origin from;
};

/// Collects candidates from the weakest place to the strongest, then reads the winners.
class collector {
public:
  explicit collector(settings base) : values_{std::move(base)} {}

  void offer(size_t index, std::string text, origin from) {
    auto& place = found_[index];
    if (place && place->from.from == source::flag && from.from != source::flag)
      warn(place->from.where + " is ignored, because " + from.where + " wins over it");
    place = candidate{std::move(text), std::move(from)};
  }

  void warn(std::string text) {
    if (std::find(warnings_.begin(), warnings_.end(), text) == warnings_.end())
      warnings_.push_back(std::move(text));
  }

  void unknown(const std::string& key, const std::string& text, const std::string& where) {
    std::string sentence = shown(key, text) + " (" + where + ") ";
    if (std::find(lmi_keys.begin(), lmi_keys.end(), key) != lmi_keys.end())
      return warn(sentence + "is a setting of LMI that has no effect here");
    sentence += "is not a known setting and ignored";
    if (auto near = nearest_key(key); !near.empty())
      sentence += "; did you mean " + std::string{near} + "?";
    else
      sentence += "; `troupe options` lists what there is";
    warn(std::move(sentence));
  }

  void fail(const std::string& text) { errors_ += (errors_.empty() ? "" : "\n") + text; }

  void fail(const caf::error& err) { fail(text_of(err)); }

  caf::expected<resolved> finish() {
    for (size_t i = 0; i < option_table.size(); ++i)
      if (auto& c = found_[i])
        read(i, *c);
    if (!errors_.empty())
      return caf::make_error(ec::bad_option, std::move(errors_));
    return resolved{std::move(values_), std::move(warnings_)};
  }

private:
  void read(size_t index, candidate& c) {
    auto& o = option_table[index];
    auto place = std::string{o.key} + " (" + c.from.where + "): ";
    auto p = parse_value(o, c.text);
    if (!p && !o.lenient)
      return fail(place + text_of(p.error()));
    if (!p) {
      auto kept = to_text(o, values_.at(index));
      return warn(place + text_of(p.error()) + "; it stays " + (kept.empty() ? "unset" : kept));
    }
    if (!p->warning.empty())
      warn(place + p->warning);
    values_.put(index, std::move(p->result), std::move(c.from));
  }

  settings values_;
  std::array<std::optional<candidate>, option_table.size()> found_;
  std::vector<std::string> warnings_;
  std::string errors_;
};

/// Offers what `file` says. `takes` tells which of the known options belong into it; `stranger`
/// words the warning about the others.
template <class Takes>
void offer_file(collector& all, const std::filesystem::path& file, Takes&& takes,
                std::string_view stranger) {
  auto entries = read_properties(file);
  if (!entries)
    return all.fail(entries.error());
  std::map<std::string, size_t> seen;
  for (auto& entry : *entries) {
    auto where = file.string() + ":" + std::to_string(entry.line);
    if (auto [at, fresh] = seen.emplace(entry.key, entry.line); !fresh) {
      all.warn(entry.key + " (" + where + ") replaces that of line " + std::to_string(at->second));
      at->second = entry.line;
    }
    auto index = index_of(entry.key);
    if (index == option_table.size())
      all.unknown(entry.key, entry.text, where);
    else if (!takes(option_table[index]))
      all.warn(shown(entry.key, entry.text) + " (" + where + ") " + std::string{stranger});
    else if (entry.text.empty())
      all.warn(entry.key + " (" + where + ") is empty and counts as unset");
    else
      all.offer(index, std::move(entry.text), {source::file, where});
  }
}

/// Offers the short-hands of an option; the first of the list that is set comes out on top.
void offer_short_hands(collector& all, size_t index, const environment& variables) {
  auto rest = option_table[index].variables;
  while (!rest.empty()) {
    auto end = std::min(rest.find(' '), rest.size());
    auto name = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    auto at = variables.find(name);
    if (at != variables.end() && !at->second.empty())
      return all.offer(index, at->second, {source::variable, "variable " + at->first});
  }
}

/// Offers every variable that begins with `prefix`; `key_of` turns the rest of its name into a key.
template <class KeyOf, class Takes>
void offer_variables(collector& all, const environment& variables, std::string_view prefix,
                     KeyOf&& key_of, Takes&& takes) {
  for (auto at = variables.lower_bound(prefix);
       at != variables.end() && at->first.starts_with(prefix); ++at) {
    if (at->second.empty())
      continue;
    auto key = key_of(std::string_view{at->first}.substr(prefix.size()));
    auto index = index_of(key);
    auto where = "variable " + at->first;
    if (index < option_table.size() && takes(option_table[index]))
      all.offer(index, at->second, {source::variable, where});
    else
      all.unknown(key, at->second, where);
  }
}

template <class Takes>
void offer_flags(collector& all, const std::vector<assignment>& flags, Takes&& takes) {
  for (auto& flag : flags) {
    auto index = index_of(flag.key);
    if (index < option_table.size() && takes(option_table[index]))
      all.offer(index, flag.text, {source::flag, flag.where});
  }
}

bool of_server(const option& o) {
  return o.level != scope::model;
}
bool of_model(const option& o) {
  return o.level != scope::server;
}
bool of_model_alone(const option& o) {
  return o.level == scope::model;
}

/// The config file: the given one, else that of MODEL_SERVER_HOME if there is one.
std::filesystem::path config_file(const sources& from) {
  if (!from.config_file.empty())
    return from.config_file;
  auto at = from.variables.find("MODEL_SERVER_HOME");
  std::filesystem::path home = at == from.variables.end() ? "" : at->second;
  std::error_code code; // a place that cannot be looked at counts as empty
  for (auto* name : {"conf/config.properties", "config.properties"})
    if (std::filesystem::is_regular_file(home / name, code))
      return home / name;
  return {};
}

/// OPTION_DTYPE is option.dtype; a name with small letters is kept as it is.
std::string option_key(std::string_view name) {
  if (name == "ENGINE")
    return "engine";
  if (name == "ENTRYPOINT")
    return "option.entryPoint";
  auto small = std::any_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  return "option." + (small ? std::string{name} : lowered(name));
}

} // namespace

environment process_environment() {
  environment out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    std::string_view text{*entry};
    if (auto at = text.find('='); at != std::string_view::npos)
      out.emplace(text.substr(0, at), text.substr(at + 1));
  }
  return out;
}

caf::expected<assignment> parse_assignment(std::string_view text) {
  auto at = text.find('=');
  if (at == std::string_view::npos || at == 0)
    return caf::make_error(ec::bad_option, '"' + std::string{text} +
                                               "\" is not of the form KEY=VALUE, as in "
                                               "option.dtype=bf16");
  assignment out{std::string{text.substr(0, at)}, std::string{text.substr(at + 1)}, "flag -o"};
  if (find_option(out.key) == nullptr) {
    auto near = nearest_key(out.key);
    return caf::make_error(ec::bad_option,
                           out.key + " (flag -o) is not a known setting; " +
                               (near.empty() ? "`troupe options` lists what there is"
                                             : "did you mean " + std::string{near} + "?"));
  }
  return out;
}

caf::expected<resolved> resolve_server(const sources& from) {
  collector all{settings{}};
  if (auto file = config_file(from); !file.empty())
    offer_file(all, file, of_server,
               "belongs to a model and has no effect here: put it into serving.properties in the "
               "model's folder");
  offer_flags(all, from.flags, of_server);
  for (size_t i = 0; i < option_table.size(); ++i)
    if (of_server(option_table[i]))
      offer_short_hands(all, i, from.variables);
  offer_variables(all, from.variables, "SERVING_", lowered, of_server);
  return all.finish();
}

caf::expected<resolved> resolve_model(const sources& from, const settings& server,
                                      const std::filesystem::path& folder) {
  collector all{server};
  for (size_t i = 0; i < option_table.size(); ++i)
    if (of_model_alone(option_table[i]))
      offer_short_hands(all, i, from.variables);
  offer_variables(all, from.variables, "OPTION_", option_key, of_model);
  std::error_code code; // a folder that cannot be looked at is for the loader to report
  if (auto file = folder / "serving.properties"; std::filesystem::exists(file, code))
    offer_file(all, file, of_model,
               "is a setting of the server and has no effect here: put it into config.properties");
  offer_flags(all, from.flags, of_model_alone);
  auto result = all.finish();
  if (!result)
    return result;
  // Flags of shared options count as the server's default, which the model's file replaces.
  for (size_t i = 0; i < option_table.size(); ++i)
    if (server.origin_at(i).from == source::flag &&
        result->values.origin_at(i).from == source::file)
      result->warnings.push_back(server.origin_at(i).where + " is ignored, because " +
                                 result->values.origin_at(i).where + " wins over it");
  return result;
}

caf::expected<std::filesystem::path> model_folder(std::string_view path,
                                                  const environment& variables) {
  if (!path.empty())
    return std::filesystem::path{path};
  auto at = variables.find("HF_MODEL_ID");
  if (at == variables.end() || at->second.empty())
    return caf::make_error(ec::bad_option,
                           std::string{"no model: name its folder, as in `troupe serve PATH`, "
                                       "or set the variable HF_MODEL_ID to it"});
  return std::filesystem::path{at->second};
}

std::filesystem::path weights_folder(const settings& model, const std::filesystem::path& folder) {
  std::filesystem::path id = model.text("option.model_id");
  if (id.empty())
    return folder;
  std::error_code code; // what cannot be looked at is for the loader to report
  if (id.is_relative() && std::filesystem::exists(folder / id, code))
    return folder / id;
  return id;
}

std::string served_name(const settings& model, const std::filesystem::path& folder) {
  if (auto& name = model.text("option.served_model_name"); !name.empty())
    return name;
  std::error_code code; // the plain path still has a last part
  auto whole = std::filesystem::absolute(folder, code).lexically_normal();
  auto last = whole.has_filename() ? whole.filename() : whole.parent_path().filename();
  auto name = last.string();
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
      c = '_';
  return name.empty() ? "model" : name;
}

} // namespace troupe::config
