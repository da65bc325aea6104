#include "troupe/runtime/startup.hpp"

#include <chrono>
#include <future>

#include "troupe/runtime/fetch_display.hpp"
#include "troupe/runtime/process.hpp"
#include "troupe/runtime/progress_bar.hpp"

namespace troupe::runtime {

using namespace std::chrono_literals;

void fetch_board::set(const std::string& url, entry now) {
  std::lock_guard lock{guard_};
  entries_[url] = std::move(now);
}

fetch_board::entry fetch_board::get(const std::string& url) const {
  std::lock_guard lock{guard_};
  auto it = entries_.find(url);
  return it == entries_.end() ? entry{} : it->second;
}

namespace {

http::prepared_model for_front_end(prepared_model&& model) {
  http::prepared_model out;
  out.spec = std::move(model.spec);
  out.dialect = std::move(model.dialect);
  out.warnings = std::move(model.warnings);
  auto& as = out.spec.registered;
  as.batch_size = model.batch_size;
  as.max_batch_delay_ms = static_cast<uint32_t>(model.max_batch_delay.count());
  as.max_idle_seconds = static_cast<uint32_t>(model.max_idle_time.count() / 1000);
  as.min_workers = model.cpu_workers.least;
  as.max_workers = model.cpu_workers.most;
  const auto& gpu = model.gpu_workers;
  as.gpu_min_workers = gpu.least_given ? gpu.least : unset_workers;
  as.gpu_max_workers = gpu.most_given ? gpu.most : unset_workers;
  as.parallel_loading = model.settings.boolean("option.parallel_loading");
  if (model.settings.boolean("log_request_metric"))
    as.sum_up_every = static_cast<uint32_t>(model.settings.integer("metrics_aggregation"));
  as.reserved_bytes = model.cpu_memory.reserved;
  as.required_bytes = model.cpu_memory.required;
  out.spec.load.device_reserved_bytes = model.gpu_memory.reserved;
  out.spec.load.device_required_bytes = model.gpu_memory.required;
  return out;
}

using answer_future = std::future<caf::expected<model_status>>;

/// One model that is on its way.
struct pending {
  const config::model_request* wanted;
  answer_future answer;
};

pending start(http::server& front, const config::model_request& wanted) {
  auto promise = std::make_shared<std::promise<caf::expected<model_status>>>();
  pending out{&wanted, promise->get_future()};
  auto taken = front.register_model(wanted, [promise](caf::expected<model_status> status) {
    promise->set_value(std::move(status));
  });
  if (taken)
    promise->set_value(std::move(taken));
  return out;
}

/// Waits while it draws. @returns false after a signal.
bool watch(host& running, pending& one, const fetch_board& board) {
  const auto& url = one.wanted->url;
  auto name = one.wanted->name.empty() ? config::inferred_name(url) : one.wanted->name;
  fetch_display fetching{url};
  progress_bar loading{"loading " + name};
  while (one.answer.wait_for(50ms) != std::future_status::ready) {
    if (wait_signal(0ms))
      return false;
    auto fetched = board.get(url);
    fetching.update(fetched.done, fetched.total, fetched.what);
    if (fetched.what.empty() && on_terminal())
      loading.show(running.progress(url));
  }
  return true;
}

} // namespace

http::model_source make_source(config::sources from, config::settings server, bool dummy,
                               std::shared_ptr<fetch_board> board) {
  return [=](const config::model_request& wanted,
             std::stop_token stop) -> caf::expected<http::prepared_model> {
    auto progress = [&](uint64_t done, uint64_t total, const std::string& what) {
      if (board)
        board->set(wanted.url, {done, total, what});
    };
    auto found = dummy && wanted.at_startup
                     ? prepare_dummy(from, server)
                     : prepare_model(wanted, from, server, progress, std::move(stop));
    if (board)
      board->set(wanted.url, {});
    if (!found)
      return std::move(found.error());
    return for_front_end(std::move(*found));
  };
}

startup_result load_models(host& running, http::server& front,
                           const std::vector<config::model_request>& wanted, bool all_or_none,
                           const fetch_board& board) {
  std::vector<pending> all;
  for (const auto& one : wanted)
    all.push_back(start(front, one));
  startup_result out;
  for (auto& one : all) {
    if (!watch(running, one, board)) {
      out.cancelled = true;
      return out;
    }
    auto status = one.answer.get();
    if (status)
      out.ready.push_back(std::move(*status));
    else
      out.failed.push_back(std::move(status.error()));
    if (!out.failed.empty() && all_or_none)
      return out;
  }
  return out;
}

} // namespace troupe::runtime
