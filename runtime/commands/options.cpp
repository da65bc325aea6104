#include "troupe/runtime/commands.hpp"

#include <cstdio>

#include <CLI/CLI.hpp>

#include "troupe/config/render.hpp"
#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/completion.hpp"
#include "troupe/runtime/man_page.hpp"
#include "troupe/runtime/preparation.hpp"

namespace troupe::runtime {

namespace {

struct arguments {
  std::string path;
  bool markdown = false;
  bool man = false;
  std::string completion;
};

int show_options(const arguments& given, const typed_settings& typed) {
  if (given.markdown) {
    std::fputs(config::options_markdown().c_str(), stdout);
    return 0;
  }
  auto from = sources_of(typed);
  if (!from)
    return fail(from.error());
  auto server = config::resolve_server(*from);
  if (!server)
    return fail(server.error());
  auto values = server->values;
  auto warnings = server->warnings;
  auto folder = folder_here(given.path, *from, values);
  if (!folder && !given.path.empty())
    return fail(folder.error());
  if (folder) {
    auto model = config::resolve_model(*from, server->values, *folder);
    if (!model)
      return fail(model.error());
    values = model->values;
    warnings.insert(warnings.end(), model->warnings.begin(), model->warnings.end());
  }
  std::fputs(config::options_table(values).c_str(), stdout);
  for (const auto& warning : warnings)
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  return 0;
}

} // namespace

void add_options(CLI::App& app, command& chosen) {
  auto* sub =
      app.add_subcommand("options", "Prints every option, its value and where that comes from");
  auto given = std::make_shared<arguments>();
  sub->add_option(
         "path", given->path,
         "Model whose serving.properties counts in; the first start-up model when left out")
      ->type_name("PATH");
  sub->add_flag("--markdown", given->markdown, "Prints the reference that docs/options.md holds");
  sub->add_flag("--man", given->man, "Prints the manual page troupe(1) in roff");
  sub->add_option("--completion", given->completion,
                  "Prints a script that completes flags in bash or zsh")
      ->check(CLI::IsMember({"bash", "zsh"}))
      ->type_name("SHELL");
  auto typed = add_setting_flags(*sub);
  sub->callback([=, &app, &chosen] {
    chosen = [=, &app] {
      if (!given->man && given->completion.empty())
        return show_options(*given, *typed);
      std::fputs((given->man                    ? man_page(app)
                  : given->completion == "bash" ? bash_completion(app)
                                                : zsh_completion(app))
                     .c_str(),
                 stdout);
      return 0;
    };
  });
}

} // namespace troupe::runtime
