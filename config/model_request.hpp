#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/resolve.hpp"

namespace troupe::config {

/// A model that somebody wants to be served: a start-up model, or one of a register call. Nothing
/// has been looked at yet.
struct model_request {
  std::string url;     ///< Folder, archive, file: or http(s): URL, or an id of the hub.
  std::string name;    ///< Empty: option.served_model_name, else what `inferred_name` says.
  std::string version; ///< Empty: none.
  std::string engine;  ///< Empty: as serving.properties says.
  std::string devices; ///< As load_on_devices; empty: as serving.properties says.
  /// Arguments of a register call by their names there (batch_size, max_batch_delay, max_idle_time,
  /// job_queue_size, min_worker, max_worker); empty and -1 count as not given.
  std::map<std::string, std::string> arguments;
  bool at_startup = false;
};

/// Reads `load_models` unless it is ALL or NONE: `[NAME:VERSION:ENGINE:DEVICES]=URL` apart by
/// commas and white space; brackets and parts may be left out, and a backslash keeps the next
/// character from ending a URL. Errors: ec::bad_option naming the entry.
caf::expected<std::vector<model_request>> parse_load_models(std::string_view text);

/// `text` with backslashes before its white space, so that a path with blanks is one entry.
std::string with_kept_blanks(std::string_view text);

/// The models in a store: each entry when all are folders or archives that are not hidden, else the
/// store itself as one model. Empty folders are left out. In the order of their names.
/// Errors: ec::bad_model when there is no such folder, or it cannot be read.
caf::expected<std::vector<model_request>> scan_model_store(const std::filesystem::path& store);

/// What a start wants to load, and what there is to say about it.
struct startup {
  std::vector<model_request> models; ///< The first one is what hints and defaults speak of.
  std::vector<std::string> warnings;
};

/// The models to load at the start. With a `path` (of `troupe serve PATH`): that one, and those of
/// -m and -s on the same command line. Without: `load_models` of whatever place over `model_store`,
/// and HF_MODEL_ID beside them. Empty only where that was asked for (NONE, or an empty store).
/// Errors: ec::bad_option: a malformed list, two models of one name and version, or nothing named.
caf::expected<startup> startup_models(std::string_view path, const settings& server,
                                      const environment& variables);

/// The name that `url` gives a model: its last part without the extension of an archive, everything
/// but letters, digits and underscores as `_`.
std::string inferred_name(std::string_view url);

/// The extension with which `name` says that it is an archive (".zip", ".tar.gz", ...), or nothing.
std::string_view archive_extension(std::string_view name);

/// The arguments of a request as settings of the model, for `sources::arguments`.
std::vector<assignment> arguments_of(const model_request& request);

} // namespace troupe::config
