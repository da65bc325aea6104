#include "troupe/http/server.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include <algorithm>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "troupe/http/connection.hpp"
#include "troupe/http/listener.hpp"
#include "troupe/http/registration.hpp"
#include "troupe/http/relay.hpp"

namespace troupe::http {

namespace asio = boost::asio;

namespace {

/// About when the process began: static objects are made before main.
const auto process_start = std::chrono::steady_clock::now();

/// Descriptors left to everybody else: model files, logs, actors of other hosts.
constexpr uint64_t reserved_files = 128;

std::string host_name() {
  char name[256] = "localhost";
  ::gethostname(name, sizeof name - 1);
  return name;
}

uint32_t thread_count(uint32_t wanted) {
  constexpr uint32_t most = 8;
  return wanted > 0 ? wanted : std::clamp(std::thread::hardware_concurrency() / 8, 1u, most);
}

size_t connection_limit(uint32_t wanted) {
  auto files = raise_file_limit();
  auto possible = files > 2 * reserved_files ? files - reserved_files : files / 2;
  return wanted > 0 ? std::min<uint64_t>(wanted, possible) : possible;
}

/// A keystore goes before PEM files, as in DJL Serving; with neither the certificate is our own.
caf::expected<std::shared_ptr<tls_context>> open_tls(const server_settings& settings,
                                                     const std::string& host) {
  if (!settings.keystore_file.empty())
    return tls_context::load_keystore(settings.keystore_file, settings.keystore_password);
  if (!settings.certificate_file.empty())
    return tls_context::load(settings.certificate_file, settings.private_key_file);
  return tls_context::self_signed(host);
}

using work_guard = asio::executor_work_guard<asio::io_context::executor_type>;

} // namespace

uint64_t raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return 1024;
  if (limit.rlim_cur < limit.rlim_max) {
    auto raised = limit;
    raised.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0)
      limit = raised;
  }
  return limit.rlim_cur;
}

struct server::parts {
  std::vector<std::shared_ptr<io_loop>> loops;
  std::shared_ptr<front_end> front = std::make_shared<front_end>();
  std::vector<std::shared_ptr<listener>> acceptors; ///< The second one: of the management API.
  caf::actor_system* system = nullptr;
  engine_actor engine;
  std::vector<work_guard> guards;
  std::vector<std::thread> threads;

  void on_every_loop(void (connection::*what)()) {
    for (auto& loop : loops)
      asio::post(loop->context, [loop = loop.get(), what] {
        auto all = loop->connections; // They leave the set while it is walked.
        for (const auto& client : all)
          (client.get()->*what)();
      });
  }

  /// Takes the addresses.
  caf::error open(const std::shared_ptr<tls_context>& tls) {
    const auto& settings = front->state->settings;
    const auto limit = connection_limit(settings.max_connections);
    auto add = [&](listen_address where, listener_role role) {
      listener_traits traits{role, where.tls ? tls : nullptr};
      acceptors.push_back(
          std::make_shared<listener>(front, loops, std::move(where), std::move(traits), limit));
      return acceptors.back()->open();
    };
    auto role = settings.management ? listener_role::inference : listener_role::everything;
    if (auto error =
            add({settings.address, settings.port, settings.unix_path, tls && settings.tls}, role))
      return error;
    return settings.management ? add(*settings.management, listener_role::management)
                               : caf::error{};
  }

  void close() {
    for (auto& acceptor : acceptors)
      acceptor->close();
  }

  void run(asio::io_context& context) {
    guards.emplace_back(asio::make_work_guard(context));
    threads.emplace_back([&context] { context.run(); });
  }
};

server::server(std::unique_ptr<parts> parts) : parts_(std::move(parts)) {}

caf::expected<std::unique_ptr<server>> server::open(caf::actor_system& system, engine_actor engine,
                                                    telemetry::metrics_ptr metrics,
                                                    server_settings settings, model_source source) {
  auto made = std::make_unique<parts>();
  auto& front = *made->front;
  front.state = std::make_shared<front_state>(std::move(settings));
  auto& state = *front.state;
  state.metrics = std::move(metrics);
  state.facts.host = host_name();
  state.facts.version = state.settings.version;
  state.source = std::move(source);
  if (!state.settings.model_url_pattern.empty()) {
    auto pattern = url_pattern::compile(state.settings.model_url_pattern);
    if (!pattern)
      return std::move(pattern.error());
    state.loadable = std::make_unique<const url_pattern>(std::move(*pattern));
  }
  // A certificate alone asks for https, too.
  state.settings.tls = state.settings.tls || !state.settings.certificate_file.empty();
  std::shared_ptr<tls_context> used;
  if (state.settings.tls || (state.settings.management && state.settings.management->tls)) {
    auto tls = open_tls(state.settings, state.facts.host);
    if (!tls)
      return std::move(tls.error());
    used = std::move(*tls);
    // OpenSSL writes to sockets without a way to suppress the signal.
    std::signal(SIGPIPE, SIG_IGN);
  }
  for (uint32_t i = 0; i < thread_count(state.settings.threads); ++i)
    made->loops.push_back(std::make_shared<io_loop>());
  if (auto error = made->open(used))
    return error;
  made->system = &system;
  made->engine = engine;
  front.engine = link_engine(system, std::move(engine), front.state);
  return std::unique_ptr<server>{new server{std::move(made)}};
}

caf::error server::listen() {
  auto& p = *parts_;
  for (auto& acceptor : p.acceptors)
    if (auto error = acceptor->listen())
      return error;
  p.front->state->facts.startup_microseconds =
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - process_start)
          .count();
  for (auto& loop : p.loops)
    p.run(loop->context);
  p.run(p.front->parsing);
  asio::post(p.loops.front()->context, [all = p.acceptors] {
    for (auto& acceptor : all)
      acceptor->start();
  });
  return {};
}

caf::expected<std::unique_ptr<server>> server::start(caf::actor_system& system, engine_actor engine,
                                                     telemetry::metrics_ptr metrics,
                                                     server_settings settings,
                                                     model_source source) {
  auto made =
      open(system, std::move(engine), std::move(metrics), std::move(settings), std::move(source));
  if (made)
    if (auto error = (*made)->listen())
      return error;
  return made;
}

server::~server() {
  stop(std::chrono::milliseconds{0});
}

uint16_t server::port() const {
  return parts_->acceptors.front()->port();
}

uint16_t server::management_port() const {
  return parts_->acceptors.back()->port();
}

caf::error server::register_model(config::model_request wanted,
                                  std::function<void(caf::expected<model_status>)> done) {
  return http::register_model(*parts_->system, parts_->engine, parts_->front->state,
                              std::move(wanted), on_failure::list, std::move(done));
}

void server::begin_drain() {
  parts_->front->state->draining.store(true);
  parts_->on_every_loop(&connection::drain);
}

void server::stop(std::chrono::milliseconds grace) {
  if (parts_->threads.empty())
    return parts_->close();
  auto until = std::chrono::steady_clock::now() + grace;
  auto& p = *parts_;
  p.front->state->draining.store(true);
  asio::post(p.loops.front()->context, [all = p.acceptors] {
    for (auto& acceptor : all)
      acceptor->close();
  });
  p.on_every_loop(&connection::drain);
  while (p.front->open.load() > 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  p.on_every_loop(&connection::close);
  // The loops run on until their last handlers are done, so that nothing is left half-closed.
  p.guards.clear();
  p.front->parsing.stop();
  for (auto& thread : p.threads)
    thread.join();
  p.threads.clear();
}

} // namespace troupe::http
