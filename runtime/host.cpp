#include "troupe/runtime/host.hpp"

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>

#include <caf/all.hpp>

#include "troupe/config/resolve.hpp"
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

double progress_of(caf::actor_system& system, const engine_actor& engine, const std::string& name) {
  auto future = ask<std::vector<model_status>>(system, engine, status_atom_v);
  if (future.wait_for(1s) != std::future_status::ready)
    return 0;
  auto all = future.get();
  if (!all)
    return 0;
  auto one = std::find_if(all->begin(), all->end(), [&](auto& m) { return m.name == name; });
  return one == all->end() ? 0 : one->load_progress;
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

model_spec spec_of(const config::settings& model, const std::string& folder, bool dummy) {
  model_spec spec;
  spec.name = dummy && model.text("option.served_model_name").empty()
                  ? "dummy"
                  : config::served_name(model, folder);
  spec.load.folder = dummy ? "" : config::weights_folder(model, folder).string();
  spec.load.dummy = dummy;
  spec.load.dummy_step_us =
      static_cast<uint32_t>(model.number("option.dummy_step_ms") * 1000.0 + 0.5);
  spec.load.dtype = model.text("option.dtype");
  auto cores = std::max(1u, std::thread::hardware_concurrency());
  auto degree = model.integer("option.tensor_parallel_degree");
  spec.load.shards = degree < 0    ? models::all_devices
                     : degree == 0 ? models::by_device
                                   : static_cast<uint32_t>(degree);
  spec.load.devices = model.text("load_on_devices");
  spec.load.device_map = model.text("option.device_map");
  if (auto id = model.integer("option.device_id"); id >= 0 && spec.load.device_map.empty())
    spec.load.devices = std::to_string(id);
  spec.load.gpu_memory_utilization = model.number("option.gpu_memory_utilization");
  spec.load.cuda_graphs = model.boolean("option.cuda_graphs");
  spec.load.batch_invariant = model.boolean("option.batch_invariant");
  spec.load.random_weights = model.text("option.load_format") == "dummy";
  spec.load.cpu_threads = static_cast<uint32_t>(model.integer("option.cpu_threads"));
  spec.load.max_model_len = static_cast<uint32_t>(model.integer("option.max_model_len"));
  spec.load.kv_block_tokens = static_cast<uint32_t>(model.integer("option.kv_block_tokens"));
  spec.load.kv_cache_bytes = static_cast<uint64_t>(model.integer("option.kv_cache_bytes"));
  if (auto bytes = model.integer("option.kv_host_bytes"); bytes >= 0)
    spec.load.kv_host_bytes = static_cast<uint64_t>(bytes);
  spec.load.max_sequences =
      model.text("option.rolling_batch") == "disable"
          ? 1
          : static_cast<uint32_t>(model.integer("option.max_rolling_batch_size"));
  auto step_tokens = model.integer("option.max_step_tokens");
  spec.load.max_step_tokens =
      step_tokens > 0 ? static_cast<uint32_t>(step_tokens) : models::by_device;
  if (model.has("option.schedule_ahead"))
    spec.load.schedule_ahead = model.boolean("option.schedule_ahead") ? models::device_choice::on
                                                                      : models::device_choice::off;
  spec.load.steps_in_flight = static_cast<uint32_t>(model.integer("option.steps_in_flight"));
  spec.queue_limit = static_cast<uint32_t>(model.integer("job_queue_size"));
  auto tokenizers = model.integer("tokenizer_threads");
  spec.tokenizer_threads =
      tokenizers > 0 ? static_cast<uint32_t>(tokenizers) : std::clamp(cores / 2, 1u, 4u);
  spec.retry_threshold = static_cast<uint32_t>(model.integer("retry_threshold"));
  spec.loading_timeout_ms =
      static_cast<uint32_t>(model.duration("option.model_loading_timeout").count());
  spec.trust_request_template = model.boolean("trust_request_chat_template");
  spec.prefix_cache = model.boolean("option.prefix_cache");
  return spec;
}

} // namespace troupe::runtime
