#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "troupe/actors/interfaces.hpp"
#include "troupe/config/model_request.hpp"
#include "troupe/config/workers.hpp"
#include "troupe/http/settings.hpp"
#include "troupe/models/sources/model_source.hpp"

/// From "somebody wants this model" to what the engine loads and the front end answers with.
namespace troupe::runtime {

/// Memory that loading must leave or may take, in bytes.
struct memory_demand {
  uint64_t required = 0; ///< required_memory_mb: what the model is said to need, at least.
  uint64_t reserved = 0; ///< reserved_memory_mb: what must be left.
};

/// A model that is on this machine, with all its settings resolved. A plain value.
struct prepared_model {
  model_spec spec;                   ///< What the engine loads.
  http::dialect_settings dialect;    ///< How its routes answer.
  config::settings settings;         ///< All of it, with where each value comes from.
  std::vector<std::string> warnings; ///< One sentence each, about the settings.

  std::string url;              ///< As requested.
  std::filesystem::path folder; ///< With serving.properties; weights may be elsewhere.
  std::string version;
  std::string architecture;          ///< As in config.json; empty where that is not readable.
  std::string rolling_batch_because; ///< Why it batches as it does.
  bool rolling_batch = true;
  bool at_startup = false;

  uint32_t batch_size = 1;
  std::chrono::milliseconds max_batch_delay{100};
  std::chrono::milliseconds max_idle_time{60'000};
  uint32_t job_queue_size = 1000;
  config::worker_limits cpu_workers, gpu_workers; ///< On each device of that kind.
  memory_demand cpu_memory, gpu_memory;
};

/// Fetches the model of a request and resolves its settings: arguments of the request over flags
/// over serving.properties over the environment over `server`. Blocks while something is unpacked
/// or downloaded: for a thread of its own, any one. Errors: as models::fetch_model; ec::bad_option
/// with a line for every bad setting.
caf::expected<prepared_model> prepare_model(const config::model_request& request,
                                            const config::sources& from,
                                            const config::settings& server,
                                            const models::fetch_progress& progress,
                                            std::stop_token stop);

/// The same for the model without weights. Errors: ec::bad_option.
caf::expected<prepared_model> prepare_dummy(const config::sources& from,
                                            const config::settings& server);

/// Where models are fetched from and to: download_dir, and of the environment HF_HOME,
/// HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN (or the file that `hf auth login` writes), HF_HUB_OFFLINE.
models::source_options source_options_of(const config::settings& model,
                                         const config::environment& variables);

/// How the settings ask for the model in `folder` to be loaded.
/// @param dummy The model without weights, for measuring the runtime.
model_spec spec_of(const config::settings& model, const std::string& folder, bool dummy);

/// How the routes of a model of this name answer.
http::dialect_settings dialect_of(const config::settings& model, const std::string& name);

} // namespace troupe::runtime
