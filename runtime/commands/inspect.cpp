#include "troupe/runtime/commands.hpp"

#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "troupe/models/inspect.hpp"
#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/preparation.hpp"

namespace troupe::runtime {

namespace {

/// 0 when the folder can be served, 1 when not, so that scripts can ask.
int inspect(const std::string& path) {
  config::sources from;
  from.variables = config::process_environment();
  auto server = config::resolve_server(from);
  if (!server)
    return fail(server.error());
  auto folder = folder_here(path, from, server->values);
  if (!folder)
    return fail(folder.error());
  auto report = models::inspect_folder(folder->string());
  std::fputs(models::render(report).c_str(), stdout);
  return report.supported ? 0 : 1;
}

} // namespace

void add_inspect(CLI::App& app, command& chosen) {
  auto* sub = app.add_subcommand(
      "inspect", "Says what a model folder is, what memory it takes, and whether it can be served");
  auto path = std::make_shared<std::string>();
  sub->add_option("path", *path,
                  "Model: a folder, an archive, or an id of the hub that is in its cache; "
                  "HF_MODEL_ID when left out")
      ->type_name("PATH");
  sub->callback([=, &chosen] { chosen = [=] { return inspect(*path); }; });
}

} // namespace troupe::runtime
