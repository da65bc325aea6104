#pragma once

#include <string>

#include "troupe/runtime/model_setup.hpp"

/// Preparing models from the main thread of the program, for people to watch.
namespace troupe::runtime {

/// `prepare_model` on a thread of its own, while this one shows progress (on a terminal as a bar,
/// else as a log line now and then) and looks at signals. Errors: as `prepare_model`, and
/// ec::cancelled after SIGINT or SIGTERM. @pre take_signals()
caf::expected<prepared_model> prepare_shown(const config::model_request& request,
                                            const config::sources& from,
                                            const config::settings& server);

/// The one model that a command line and the environment name. Errors: as above; ec::bad_option
/// when they name none, or several.
caf::expected<prepared_model> prepare_one(const std::string& path, const config::sources& from,
                                          const config::settings& server);

/// The folder of the model that a command line and the environment name first, without asking
/// anybody: an archive is unpacked, and of the hub only the cache counts.
/// Errors: as models::fetch_model; ec::bad_option when none is named.
caf::expected<std::filesystem::path>
folder_here(const std::string& path, const config::sources& from, const config::settings& server);

} // namespace troupe::runtime
