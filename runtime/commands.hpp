#pragma once

#include <functional>

namespace CLI {
class App;
}

/// The subcommands of the `troupe` program. Each adds itself to the command line and says what to
/// run when it was chosen; the function returns the exit code.
namespace troupe::runtime {

using command = std::function<int()>;

/// Sets `chosen` when its subcommand is parsed.
void add_serve(CLI::App& app, command& chosen);
void add_generate(CLI::App& app, command& chosen);
void add_options(CLI::App& app, command& chosen);
void add_check(CLI::App& app, command& chosen);
void add_inspect(CLI::App& app, command& chosen);
void add_devices(CLI::App& app, command& chosen);

} // namespace troupe::runtime
