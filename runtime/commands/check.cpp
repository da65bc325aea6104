#include "troupe/runtime/commands.hpp"

#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/model_check.hpp"

namespace troupe::runtime {

namespace {

struct arguments {
  std::string path;
  bool strict = false;
};

/// 0 when every model can be served, 1 when not (or when there is a warning, where that is asked
/// for), so that scripts can ask.
int check(const arguments& given, const typed_settings& typed) {
  auto from = sources_of(typed);
  if (!from)
    return fail(from.error());
  auto server = config::resolve_server(*from);
  if (!server)
    return fail(server.error());
  auto where = config::listen_endpoint(server->values);
  if (!where)
    return fail(where.error());
  if (auto apart = config::management_endpoint(server->values, *where); !apart)
    return fail(apart.error());
  auto start = config::startup_models(given.path, server->values, from->variables);
  if (!start)
    return fail(start.error());
  for (const auto& warnings : {server->warnings, start->warnings})
    for (const auto& warning : warnings)
      std::fprintf(stderr, "warning: %s\n", warning.c_str());
  bool good = !start->models.empty();
  bool first = true;
  for (const auto& request : start->models) {
    auto report = check_model(request, *from, server->values);
    if (!std::exchange(first, false))
      std::puts("");
    std::fputs(render(report).c_str(), stdout);
    good = good && !report.has(finding::weight::error) &&
           !(given.strict && report.has(finding::weight::warning));
  }
  if (start->models.empty())
    return fail("there is no model to check");
  return good ? 0 : 1;
}

} // namespace

void add_check(CLI::App& app, command& chosen) {
  auto* sub = app.add_subcommand(
      "check", "Says what serving a model would lead to, and what is wrong with its folder and "
               "settings, without loading it");
  auto given = std::make_shared<arguments>();
  sub->add_option("path", given->path,
                  "Model as for serve; when left out, every start-up model is checked")
      ->type_name("PATH");
  sub->add_flag("--strict", given->strict, "Ends with exit code 1 for warnings, too");
  auto typed = add_setting_flags(*sub);
  sub->footer("Nothing is downloaded. Exit code 0: it can be served; 1: it cannot.");
  sub->callback([=, &chosen] { chosen = [=] { return check(*given, *typed); }; });
}

} // namespace troupe::runtime
