#include <cstdio>

#include <CLI/CLI.hpp>

#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/commands.hpp"
#include "troupe/runtime/help.hpp"
#include "troupe/runtime/process.hpp"

int main(int argc, char** argv) {
  using namespace troupe::runtime;
  take_signals();
  CLI::App app{
      "Serves Hugging Face model folders: one binary, LMI and OpenAI dialects.\n"
      "  troupe serve PATH         serve a model folder over HTTP\n"
      "  troupe generate PATH      answer one prompt in the terminal\n"
      "  troupe inspect PATH       what a folder is, and what it takes to serve it\n"
      "  troupe check PATH         what serving it would lead to, and what is wrong with it\n"
      "  troupe devices            the GPUs that models can run on\n"
      "  troupe options            every option and where its value comes from\n",
      "troupe"};
  app.set_version_flag("--version", "troupe " TROUPE_VERSION);
  app.require_subcommand(1);
  app.formatter(help_formatter(help_width()));
  command chosen;
  add_serve(app, chosen);
  add_generate(app, chosen);
  add_inspect(app, chosen);
  add_check(app, chosen);
  add_devices(app, chosen);
  add_options(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // CLI11 has its own exit codes; ours are 0 for help and 1 for what cannot be started.
    if (e.get_exit_code() == 0)
      return app.exit(e);
    auto complaint = complaint_about_words(app);
    return fail(complaint.empty() ? std::string{e.what()} + "; see " + help_command(app)
                                  : complaint);
  }
  return chosen();
}
