#include "troupe/runtime/commands.hpp"

#include <cstdio>

#include <CLI/CLI.hpp>

#include "troupe/models/device_library.hpp"
#include "troupe/runtime/command_line.hpp"

namespace troupe::runtime {

namespace {

/// 0 when there is a GPU to run on, 1 when not, so that scripts can ask.
int show_devices() {
  auto devices = models::list_devices();
  if (!devices)
    return fail(devices.error());
  for (const auto& device : *devices)
    std::printf("%s\n", models::describe(device).c_str());
  return 0;
}

} // namespace

void add_devices(CLI::App& app, command& chosen) {
  auto* sub = app.add_subcommand(
      "devices", "Lists the GPUs that models can run on, or says why there are none");
  sub->callback([&chosen] { chosen = show_devices; });
}

} // namespace troupe::runtime
