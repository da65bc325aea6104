#include "troupe/runtime/command_line.hpp"

#include <cstdio>

#include <CLI/CLI.hpp>

#include "troupe/config/model_request.hpp"
#include "troupe/config/render.hpp"

namespace troupe::runtime {

namespace {

const char* group_of(const config::option& o) {
  return o.level == config::scope::server ? "Server" : "Model";
}

std::string names_of(const config::option& o) {
  return o.letter.empty() ? std::string{o.flag} : std::string{o.letter} + ',' + std::string{o.flag};
}

/// Values that are put together to one list.
bool is_repeatable(const config::option& o) {
  return o.key == "load_models";
}

} // namespace

std::shared_ptr<typed_settings> add_setting_flags(CLI::App& app) {
  auto typed = std::make_shared<typed_settings>();
  for (const auto& o : config::option_table) {
    if (o.flag.empty())
      continue;
    auto keep = [typed, key = std::string{o.key}](const std::string& text) {
      typed->flags.emplace_back(key, text);
    };
    if (is_repeatable(o)) {
      auto keep_all = [typed, key = std::string{o.key}](const std::vector<std::string>& texts) {
        for (const auto& text : texts)
          typed->flags.emplace_back(key, text);
      };
      app.add_option_function<std::vector<std::string>>(names_of(o), keep_all, config::help_text(o))
          ->group(group_of(o))
          ->type_name("URL ...");
      continue;
    }
    auto* added = app.add_option_function<std::string>(names_of(o), keep, config::help_text(o));
    added->group(group_of(o))->take_last();
    if (o.type == config::kind::boolean)
      added->expected(0, 1);
    added->type_name(o.type == config::kind::boolean ? "" : "VALUE");
  }
  app.add_option("-o,--option", typed->assignments,
                 "Sets any option of `troupe options`, e.g. -o option.tgi_compat=true")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("-f,--config-file", typed->config_file,
                 "Java properties with server settings; else conf/config.properties below "
                 "MODEL_SERVER_HOME")
      ->type_name("FILE");
  return typed;
}

caf::expected<config::sources> sources_of(const typed_settings& typed) {
  config::sources result;
  result.variables = config::process_environment();
  result.config_file = typed.config_file;
  std::string models;
  for (const auto& [key, text] : typed.flags) {
    const auto* o = config::find_option(key);
    if (is_repeatable(*o)) {
      models += (models.empty() ? "" : ",") + config::with_kept_blanks(text);
      continue;
    }
    auto value = text.empty() && o->type == config::kind::boolean ? std::string{"true"} : text;
    result.flags.push_back({key, value, "flag " + std::string{o->flag}});
  }
  if (!models.empty())
    result.flags.push_back({"load_models", models, "flag --models"});
  for (const auto& text : typed.assignments) {
    auto assignment = config::parse_assignment(text);
    if (!assignment)
      return assignment.error();
    result.flags.push_back(std::move(*assignment));
  }
  return result;
}

int fail(const caf::error& reason) {
  return fail(text_of(reason));
}

int fail(const std::string& sentence) {
  std::fprintf(stderr, "troupe: %s\n", sentence.c_str());
  return 1;
}

} // namespace troupe::runtime
