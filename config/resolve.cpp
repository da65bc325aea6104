#include "troupe/config/resolve.hpp"

#include <algorithm>
#include <system_error>

#include "troupe/config/collector.hpp"
#include "troupe/config/model_request.hpp"

extern char** environ; // POSIX

namespace troupe::config {

namespace {

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

/// Files that files and variables name are meant to be below MODEL_SERVER_HOME; what is typed is
/// meant from where it is typed.
void place_files(settings& values, const environment& variables) {
  auto at = variables.find("MODEL_SERVER_HOME");
  if (at == variables.end() || at->second.empty())
    return;
  for (auto name : {"certificate_file", "private_key_file", "keystore", "api_keys_file"}) {
    const auto index = index_of(name);
    const auto from = values.origin_at(index);
    const std::filesystem::path path = to_text(option_table[index], values.at(index));
    const bool named = from.from == source::file || from.from == source::variable;
    if (named && path.is_relative())
      values.put(index, (at->second / path).string(), from);
  }
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

/// SageMaker tells its containers about themselves in variables of this prefix.
bool on_sagemaker(const environment& variables) {
  constexpr std::string_view prefix = "SAGEMAKER_";
  auto at = variables.lower_bound(prefix);
  return at != variables.end() && at->first.starts_with(prefix);
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
  settings defaults;
  if (on_sagemaker(from.variables)) {
    constexpr key<kind::text> header{"request_id_header_key"};
    defaults.put(header.index(), std::string{"X-Amzn-SageMaker-Inference-Id"},
                 {source::fallback, "default on SageMaker"});
  }
  collector all{std::move(defaults)};
  if (auto file = config_file(from); !file.empty())
    all.offer_file(file, of_server,
                   "belongs to a model and has no effect here: put it into serving.properties in "
                   "the model's folder");
  all.offer_assignments(from.flags, source::flag, of_server);
  all.offer_short_hands(from.variables, of_server);
  all.offer_variables(from.variables, "SERVING_", lowered, of_server);
  all.offer_overrides(from.variables, of_server);
  auto result = all.finish();
  if (result)
    place_files(result->values, from.variables);
  return result;
}

caf::expected<resolved> resolve_model(const sources& from, const settings& server,
                                      const std::filesystem::path& folder) {
  collector all{server};
  all.offer_short_hands(from.variables, of_model_alone);
  all.offer_variables(from.variables, "OPTION_", option_key, of_model);
  std::error_code code; // a folder that cannot be looked at is for the loader to report
  auto file = folder / "serving.properties";
  if (!folder.empty() && std::filesystem::exists(file, code))
    all.offer_file(
        file, of_model,
        "is a setting of the server and has no effect here: put it into config.properties");
  all.offer_overrides(from.variables, of_model_alone);
  all.offer_assignments(from.flags, source::flag, of_model_alone);
  all.offer_assignments(from.arguments, source::argument, of_model);
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
  return inferred_name(folder.string());
}

} // namespace troupe::config
