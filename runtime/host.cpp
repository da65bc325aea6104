#include "troupe/runtime/host.hpp"

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>

#include <caf/all.hpp>

#include "troupe/runtime/process.hpp"
#include "troupe/runtime/progress_bar.hpp"

namespace troupe::runtime {

using namespace std::chrono_literals;

struct host::configuration : caf::actor_system_config {
  explicit configuration(const config::settings& server) {
    configure(*this);
    if (server.has("publish_port"))
      configure_network(*this);
    // `stealing` burns a core while idle and has the longer latency tail.
    set("scheduler.policy", caf::atom("sharing"));
    // A step's tokens wake as many threads as there are, and each wake costs more than a token.
    const int64_t few = std::thread::hardware_concurrency() >= 32 ? 4 : 2;
    auto actor_threads = server.integer("actor_threads");
    set("scheduler.max-threads", actor_threads > 0 ? actor_threads : few);
  }
};

host::host(const config::settings& server)
    : config_(std::make_unique<configuration>(server)),
      system_(std::make_unique<caf::actor_system>(*config_)),
      metrics_(std::make_shared<telemetry::metrics>()), engine_(start_engine(*system_, metrics_)) {}

host::~host() {
  stop_engine(engine_);
  engine_ = nullptr;
  exit_deadline deadline{10s, "ended by force: a thread that loads the model does not come back"};
  system_ = nullptr;
}

namespace {

/// Asks an actor from the main thread, which stays free to look at signals meanwhile.
template <class Answer, class Handle, class... Ts>
std::future<caf::expected<Answer>> ask(caf::actor_system& system, const Handle& whom, Ts... xs) {
  auto promise = std::make_shared<std::promise<caf::expected<Answer>>>();
  auto future = promise->get_future();
  system.spawn([=](caf::event_based_actor* self) {
    self->request(whom, caf::infinite, xs...)
        .then([promise](Answer& answer) { promise->set_value(std::move(answer)); },
              [promise](caf::error& reason) { promise->set_value(std::move(reason)); });
  });
  return future;
}

/// Empty when the engine does not answer within a second.
std::vector<model_status> models_of(caf::actor_system& system, const engine_actor& engine) {
  auto future = ask<std::vector<model_status>>(system, engine, status_atom_v);
  if (future.wait_for(1s) != std::future_status::ready)
    return {};
  auto all = future.get();
  return all ? std::move(*all) : std::vector<model_status>{};
}

double progress_of(caf::actor_system& system, const engine_actor& engine, const std::string& what) {
  auto all = models_of(system, engine);
  auto one = std::find_if(all.begin(), all.end(),
                          [&](auto& m) { return m.name == what || m.registered.url == what; });
  return one == all.end() ? 0 : one->load_progress;
}

} // namespace

caf::expected<model_status> host::load(const model_spec& spec) {
  auto answer = ask<model_status>(*system_, engine_, load_atom_v, spec);
  progress_bar bar{"loading " + spec.name};
  while (answer.wait_for(0s) != std::future_status::ready) {
    if (wait_signal(50ms))
      return caf::make_error(ec::cancelled, std::string{"stopped while loading"});
    if (on_terminal())
      bar.show(progress_of(*system_, engine_, spec.name));
  }
  return answer.get();
}

double host::progress(const std::string& what) {
  return progress_of(*system_, engine_, what);
}

bool host::has_given_up() {
  auto all = models_of(*system_, engine_);
  return std::any_of(all.begin(), all.end(), has_used_up_retries);
}

bool host::drain(std::chrono::milliseconds timeout) {
  auto answer =
      ask<done_atom>(*system_, engine_, drain_atom_v, static_cast<uint32_t>(timeout.count()));
  // The engine keeps the time; a little more is for the answers to leave.
  auto end = std::chrono::steady_clock::now() + timeout + 5s;
  while (answer.wait_for(0s) != std::future_status::ready) {
    if (std::chrono::steady_clock::now() > end)
      return false;
    if (wait_signal(20ms) == 0)
      continue;
    ask<done_atom>(*system_, engine_, drain_atom_v, uint32_t{0}).wait_for(500ms);
    return false;
  }
  return true;
}

} // namespace troupe::runtime
