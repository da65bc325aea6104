#include "troupe/runtime/preparation.hpp"

#include <future>
#include <mutex>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/runtime/fetch_display.hpp"
#include "troupe/runtime/process.hpp"

namespace troupe::runtime {

namespace {

using namespace std::chrono_literals;

/// How far the other thread is.
struct reached {
  uint64_t done = 0;
  uint64_t total = 0;
  std::string what; ///< Empty: nothing is being fetched.
};

class shared_progress {
public:
  void set(reached now) {
    std::lock_guard guard{mutex_};
    now_ = std::move(now);
  }

  reached get() {
    std::lock_guard guard{mutex_};
    return now_;
  }

private:
  std::mutex mutex_;
  reached now_;
};

} // namespace

caf::expected<prepared_model> prepare_shown(const config::model_request& request,
                                            const config::sources& from,
                                            const config::settings& server) {
  shared_progress progress;
  std::stop_source stop;
  auto answer = std::async(std::launch::async, [&, token = stop.get_token()] {
    return prepare_model(
        request, from, server,
        [&](uint64_t done, uint64_t total, const std::string& what) {
          progress.set({done, total, what});
        },
        token);
  });
  fetch_display shown{request.url};
  while (answer.wait_for(0s) != std::future_status::ready) {
    if (wait_signal(20ms))
      stop.request_stop();
    auto now = progress.get();
    shown.update(now.done, now.total, now.what);
  }
  return answer.get();
}

caf::expected<prepared_model> prepare_one(const std::string& path, const config::sources& from,
                                          const config::settings& server) {
  auto start = config::startup_models(path, server, from.variables);
  if (!start)
    return std::move(start.error());
  for (const auto& warning : start->warnings)
    telemetry::log(telemetry::log_level::warn, {}, warning);
  if (start->models.size() != 1)
    return caf::make_error(ec::bad_option,
                           start->models.empty()
                               ? std::string{"no model is left to load; name one, as in `troupe "
                                             "serve PATH`"}
                               : std::to_string(start->models.size()) +
                                     " models are named, and one at a time can be served: name "
                                     "one of them, as in `troupe serve " +
                                     start->models.front().url + '`');
  return prepare_shown(start->models.front(), from, server);
}

caf::expected<std::filesystem::path>
folder_here(const std::string& path, const config::sources& from, const config::settings& server) {
  auto start = config::startup_models(path, server, from.variables);
  if (!start)
    return std::move(start.error());
  if (start->models.empty())
    return caf::make_error(ec::bad_option, std::string{"there is no start-up model"});
  auto options = source_options_of(server, from.variables);
  options.offline = true;
  return models::fetch_model(start->models.front().url, options, {}, {});
}

} // namespace troupe::runtime
