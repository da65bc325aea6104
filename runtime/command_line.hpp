#pragma once

#include <memory>
#include <string>
#include <vector>

#include "troupe/config/resolve.hpp"

namespace CLI {
class App;
}

/// What the subcommands share: flags out of the option table, and what is said when settings are
/// bad.
namespace troupe::runtime {

/// What a user typed besides the subcommand's own arguments.
struct typed_settings {
  std::vector<std::string> assignments; ///< -o key=value
  std::string config_file;
  std::vector<std::pair<std::string, std::string>> flags; ///< Option key, text; in table order.
};

/// Adds a flag for every option of the table that has one, and `-o KEY=VALUE` and `--config-file`.
/// The result is filled while the command line is parsed.
std::shared_ptr<typed_settings> add_setting_flags(CLI::App& app);

/// The flags and the environment as what `config::resolve_*` read. Errors: ec::bad_option.
caf::expected<config::sources> sources_of(const typed_settings& typed);

/// Writes "troupe: SENTENCE" to standard error; returns 1, the exit code of whatever failed to
/// start.
int fail(const caf::error& reason);
int fail(const std::string& sentence);

} // namespace troupe::runtime
