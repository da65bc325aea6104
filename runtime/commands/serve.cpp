#include "troupe/runtime/commands.hpp"

#include <cstdio>
#include <optional>

#include <CLI/CLI.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/resolve.hpp"
#include "troupe/http/server.hpp"
#include "troupe/models/device_library.hpp"
#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/host.hpp"
#include "troupe/runtime/otlp.hpp"
#include "troupe/runtime/process.hpp"
#include "troupe/runtime/security.hpp"
#include "troupe/runtime/startup.hpp"

namespace troupe::runtime {

namespace {

using namespace std::chrono_literals;

struct arguments {
  std::string path;
  std::vector<std::string> api_keys;
  bool dummy = false;
};

telemetry::log_settings log_settings_of(const config::settings& server) {
  using level = telemetry::log_level;
  const auto& word = server.text("log_level");
  telemetry::log_settings result;
  result.json = server.text("log_format") == "json";
  constexpr std::pair<std::string_view, level> words[] = {
      {"trace", level::trace}, {"debug", level::debug}, {"info", level::info},
      {"warn", level::warn},   {"error", level::error}, {"fatal", level::fatal},
      {"off", level::off}};
  for (const auto& [name, value] : words)
    if (word == name)
      result.level = value;
  return result;
}

/// Where clients find the server.
struct addresses {
  config::endpoint inference;
  std::optional<config::endpoint> management; ///< Absent: there, too.
};

caf::expected<addresses> addresses_of(const config::settings& server) {
  auto inference = config::listen_endpoint(server);
  if (!inference)
    return std::move(inference.error());
  auto management = config::management_endpoint(server, *inference);
  if (!management)
    return std::move(management.error());
  return addresses{std::move(*inference), std::move(*management)};
}

/// @param s With the settings of models for what clients read before a model is known.
std::vector<http::device_memory> memory_in_use() {
  std::vector<http::device_memory> out;
  if (auto devices = models::devices_in_use())
    for (const auto& device : *devices)
      out.push_back({device.ordinal, device.total_bytes - device.free_bytes});
  return out;
}

http::server_settings server_settings_of(const config::settings& s, const addresses& where) {
  http::server_settings result;
  result.address = where.inference.host;
  result.port = where.inference.port;
  result.unix_path = where.inference.unix_path;
  result.tls = where.inference.tls;
  if (const auto& own = where.management)
    result.management = http::listen_address{own->host, own->port, own->unix_path, own->tls};
  if (result.tls || (result.management && result.management->tls)) {
    result.certificate_file = s.text("certificate_file");
    result.private_key_file = s.text("private_key_file");
  }
  result.threads = static_cast<uint32_t>(s.integer("number_of_netty_threads"));
  result.max_header_bytes = static_cast<size_t>(s.integer("max_header_size"));
  result.max_request_size = static_cast<uint64_t>(s.integer("max_request_size"));
  result.header_timeout = s.duration("header_timeout");
  result.body_timeout = s.duration("body_timeout");
  result.idle_timeout = s.duration("keep_alive_timeout");
  result.request_id_header = s.text("request_id_header_key");
  result.cors_allowed_origin = s.text("cors_allowed_origin");
  result.cors_allowed_methods = s.text("cors_allowed_methods");
  result.cors_allowed_headers = s.text("cors_allowed_headers");
  result.async_capacity = static_cast<size_t>(s.integer("memory_cache_capacity"));
  result.async_batch = static_cast<size_t>(s.integer("cache_batch"));
  result.allow_request_handler = s.boolean("allow_request_handler_override");
  result.model_url_pattern = s.text("model_url_pattern");
  result.fail_ping_when_unhealthy = s.boolean("fail_ping_when_unhealthy");
  result.keep_ready = s.boolean("health_check_override");
  result.allow_multi_status = s.boolean("allow_multi_status");
  result.error_rates = {s.rate("error_rate_wlm"), s.rate("error_rate_server"),
                        s.rate("error_rate_model"), s.rate("error_rate_any")};
  result.metrics_enabled = s.boolean("prometheus");
  if (models::may_have_devices())
    result.ask_device_memory = memory_in_use;
  result.version = TROUPE_VERSION;
  result.dialect = dialect_of(s, {});
  return result;
}

std::string url_of(const config::endpoint& where, uint16_t port) {
  if (!where.unix_path.empty())
    return "unix:" + where.unix_path;
  auto host = where.host.find(':') == std::string::npos ? where.host : "[" + where.host + "]";
  return (where.tls ? "https://" : "http://") + host + ":" + std::to_string(port);
}

/// What to try next, for people; a log line would drown it.
void print_hints(const std::string& url, const model_status& model) {
  std::printf(
      "\ntroupe serves %s (%s, context %u) on %s\n\n"
      "try:   curl -N %s/v1/chat/completions -H 'content-type: application/json' \\\n"
      "         -d '{\"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": "
      "\"What is the capital of France?\"}]}'\n"
      "or:    openai.OpenAI(base_url=\"%s/v1\", api_key=\"none\").chat.completions.create(\n"
      "         model=\"%s\", messages=[{\"role\": \"user\", \"content\": \"Hello\"}])\n"
      "stop:  Ctrl-C (running requests finish first; once more stops at once)\n\n",
      model.name.c_str(), model.architecture.c_str(), model.context, url.c_str(), url.c_str(),
      url.c_str(), model.name.c_str());
}

/// Once everything is there: where it is, and what it is.
void print_ready(const http::server& front, const addresses& where,
                 const std::vector<model_status>& models) {
  const auto url = url_of(where.inference, front.port());
  if (models.empty())
    std::printf(
        "\ntroupe serves no model yet on %s\n\n"
        "try:   curl -X POST '%s/models?url=file:///path/of/a/model'\n\n",
        url.c_str(),
        url_of(where.management.value_or(where.inference), front.management_port()).c_str());
  else
    print_hints(url, models.front());
  for (size_t i = 1; i < models.size(); ++i)
    std::printf("also:  %s (%s, context %u)\n",
                label_of(models[i].name, models[i].registered.version).c_str(),
                models[i].architecture.c_str(), models[i].context);
  if (where.management)
    std::printf("the management API on %s is for trusted clients only\n",
                url_of(*where.management, front.management_port()).c_str());
  std::fflush(stdout);
}

/// Lets other processes reach the engine, if that is wanted.
caf::error publish(host& running, const config::settings& server) {
  if (!server.has("publish_port"))
    return {};
  const auto& address = server.text("publish_address");
  auto port = publish_engine(running.system(), running.engine(),
                             static_cast<uint16_t>(server.integer("publish_port")), address);
  if (!port)
    return std::move(port.error());
  telemetry::log(telemetry::log_level::warn, {},
                 "the engine is published on " + address + ':' + std::to_string(*port) +
                     " to every process that reaches it; there is no authentication");
  return {};
}

void warn_of(const std::vector<std::string>& warnings) {
  for (const auto& warning : warnings)
    telemetry::log(telemetry::log_level::warn, {}, warning);
}

/// The model without weights has no URL, and shows this one.
caf::expected<config::startup> models_of(const arguments& given, const config::sources& from,
                                         const config::settings& server) {
  if (!given.dummy)
    return config::startup_models(given.path, server, from.variables);
  config::startup out;
  config::model_request dummy;
  dummy.url = "dummy:";
  dummy.at_startup = true;
  out.models.push_back(std::move(dummy));
  return out;
}

/// As a process that was killed, which supervisors start anew.
constexpr int failed_fast = 137;

/// @returns false, with `fail_fast`, when a model was given up.
bool serve_until_signal(host& running, bool fail_fast) {
  while (wait_signal(fail_fast ? std::chrono::milliseconds{250} : 1h) == 0)
    if (fail_fast && running.has_given_up())
      return false;
  return true;
}

int serve(const arguments& given, const typed_settings& typed) {
  auto from = sources_of(typed);
  if (!from)
    return fail(from.error());
  auto server = config::resolve_server(*from);
  if (!server)
    return fail(server.error());
  telemetry::configure_log(log_settings_of(server->values));
  warn_of(server->warnings);
  auto wanted = models_of(given, *from, server->values);
  if (!wanted)
    return fail(wanted.error());
  warn_of(wanted->warnings);
  auto where = addresses_of(server->values);
  if (!where)
    return fail(where.error());
  // What is wrong with the settings of all models is known at once.
  auto outside = config::resolve_model(*from, server->values, {});
  if (!outside)
    return fail(outside.error());
  http::raise_file_limit();
  caf::expected<std::unique_ptr<otlp_exporter>> traces = std::unique_ptr<otlp_exporter>{};
  if (server->values.has("otlp_endpoint"))
    traces = otlp_exporter::start(server->values.text("otlp_endpoint"), TROUPE_VERSION);
  if (!traces)
    return fail(traces.error());

  host running{server->values};
  auto board = std::make_shared<fetch_board>();
  auto settings = server_settings_of(outside->values, *where);
  if (auto problem = secure(settings, server->values, given.api_keys))
    return fail(problem);
  // Before models are loaded, so that a taken port is known at once.
  auto front =
      http::server::open(running.system(), running.engine(), running.metrics(), std::move(settings),
                         make_source(*from, server->values, given.dummy, board));
  if (!front)
    return fail(front.error());
  // So is a taken port of this; until a model is there, peers are told that it is loading.
  if (auto problem = publish(running, server->values))
    return fail(problem);
  const bool wait = server->values.boolean("wait_model_loading");
  if (!wait) {
    if (auto error = (*front)->listen())
      return fail(error);
    std::printf("\ntroupe listens on %s while models load; /ping tells when they are there\n",
                url_of(where->inference, (*front)->port()).c_str());
    std::fflush(stdout);
  }
  auto started = load_models(running, **front, wanted->models, wait, *board);
  if (wait && !started.failed.empty())
    return fail(started.failed.front());
  if (wait && !started.cancelled)
    if (auto error = (*front)->listen())
      return fail(error);
  if (!started.failed.empty())
    telemetry::log(telemetry::log_level::error, {},
                   std::to_string(started.failed.size()) +
                       " of the start-up models could not be loaded, and /ping answers 500");
  if (started.cancelled && wait)
    return fail(caf::make_error(ec::cancelled, std::string{"stopped while loading"}));
  if (!started.cancelled && (!started.ready.empty() || wanted->models.empty()))
    print_ready(**front, *where, started.ready);

  if (!started.cancelled && !serve_until_signal(running, server->values.boolean("fail_fast"))) {
    telemetry::log(telemetry::log_level::fatal, {},
                   "a model has used up its retries: ending with exit code 137 (fail_fast)");
    (*front)->begin_drain();
    (*front)->stop(1s);
    return failed_fast;
  }
  auto patience = server->values.duration("drain_timeout");
  telemetry::log(telemetry::log_level::info, {},
                 "stopping: running requests have " + std::to_string(patience.count() / 1000) +
                     " s to finish; a second signal stops at once");
  (*front)->begin_drain();
  bool finished = running.drain(patience);
  (*front)->stop(finished ? 5s : 1s); // Error events leave within moments, or never.
  telemetry::log(telemetry::log_level::info, {},
                 finished ? "stopped" : "stopped before all had finished");
  return 0;
}

} // namespace

void add_serve(CLI::App& app, command& chosen) {
  auto* sub = app.add_subcommand("serve", "Serves a model folder over HTTP");
  auto given = std::make_shared<arguments>();
  sub->add_option("path", given->path,
                  "Model: a folder (config.json, weights, tokenizer), an archive of "
                  "one, or an id of "
                  "the hub; when left out: what -m, -s, config.properties or HF_MODEL_ID say")
      ->type_name("PATH");
  sub->add_flag("--dummy-model", given->dummy,
                "Serves a model without weights whose arithmetic is free, to measure the runtime");
  sub->add_option("--api-key", given->api_keys,
                  "Lets only those in who send this key (Authorization: Bearer KEY, or x-api-key); "
                  "may be given several times. Other users of this machine see it among the "
                  "processes: --api-keys-file is safer")
      ->type_name("KEY")
      ->allow_extra_args(false);
  auto typed = add_setting_flags(*sub);
  sub->footer("Every option can also be set in PATH/serving.properties, in config.properties, by a "
              "variable "
              "of the environment or with -o; `troupe options` says which.");
  sub->callback([=, &chosen] { chosen = [=] { return serve(*given, *typed); }; });
}

} // namespace troupe::runtime
