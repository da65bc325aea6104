#include <cstdio>

#include <CLI/CLI.hpp>

#include "troupe/runtime/commands.hpp"
#include "troupe/runtime/process.hpp"

int main(int argc, char** argv) {
  using namespace troupe::runtime;
  take_signals();
  CLI::App app{"Serves Hugging Face model folders: one binary, LMI and OpenAI dialects.\n"
               "  troupe serve PATH         serve a model folder over HTTP\n"
               "  troupe generate PATH      answer one prompt in the terminal\n"
               "  troupe inspect PATH       what a folder is, and what it takes to serve it\n"
               "  troupe options            every option and where its value comes from\n",
               "troupe"};
  app.set_version_flag("--version", "troupe " TROUPE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  command chosen;
  add_serve(app, chosen);
  add_generate(app, chosen);
  add_inspect(app, chosen);
  add_options(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // CLI11 has its own exit codes; ours are 0 for help and 1 for what cannot be started.
    return app.exit(e) == 0 ? 0 : 1;
  }
  return chosen();
}
