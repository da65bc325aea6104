#include "troupe/runtime/commands.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <CLI/CLI.hpp>

#include "troupe/actors/telemetry/log.hpp"
#include "troupe/config/resolve.hpp"
#include "troupe/http/server.hpp"
#include "troupe/runtime/command_line.hpp"
#include "troupe/runtime/host.hpp"
#include "troupe/runtime/process.hpp"

namespace troupe::runtime {

namespace {

using namespace std::chrono_literals;

struct arguments {
  std::string path;
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

uint32_t milliseconds(std::chrono::milliseconds time) {
  return static_cast<uint32_t>(time.count());
}

/// Without rolling batch requests are calls of a transformers pipeline.
void set_pipeline(const config::settings& s, http::dialect_settings& to) {
  using streaming = http::dialect_settings::streaming;
  to.pipeline = true;
  to.call_batch = static_cast<uint32_t>(s.integer("batch_size"));
  const auto& old_way = s.text("option.enable_streaming");
  to.legacy_streaming = old_way == "true"          ? streaming::pieces
                        : old_way == "huggingface" ? streaming::with_prompt
                                                   : streaming::off;
}

/// A line of the old way of streaming belongs to one call.
caf::error check_streaming(const config::settings& s) {
  if (s.text("option.enable_streaming") == "false" || s.text("option.rolling_batch") != "disable" ||
      s.integer("batch_size") == 1)
    return {};
  return caf::make_error(ec::bad_option,
                         std::string{"option.enable_streaming needs batch_size=1 without rolling "
                                     "batch: set that, or rolling_batch=scheduler and ask for "
                                     "streams in requests"});
}

/// What the model's folder says about generation; empty where it says nothing.
std::string generation_config_of(const std::string& folder) {
  std::ifstream file{std::filesystem::path{folder} / "generation_config.json"};
  return {std::istreambuf_iterator<char>{file}, {}};
}

http::server_settings server_settings_of(const config::settings& s, const config::endpoint& where,
                                         const std::string& model) {
  http::server_settings result;
  result.address = where.host;
  result.port = where.port;
  result.unix_path = where.unix_path;
  result.tls = where.tls;
  if (where.tls) {
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
  result.allow_multi_status = s.boolean("allow_multi_status");
  result.error_rates = {s.rate("error_rate_wlm"), s.rate("error_rate_server"),
                        s.rate("error_rate_model"), s.rate("error_rate_any")};
  result.metrics_enabled = s.boolean("prometheus");
  result.version = TROUPE_VERSION;
  auto& dialect = result.dialect;
  dialect.default_model = model;
  dialect.output_formatter = s.text("option.output_formatter");
  dialect.tgi_compat = s.boolean("option.tgi_compat");
  dialect.decoding_strategy = s.text("option.decoding_strategy");
  dialect.contrastive_embeddings = s.text("option.contrastive_hidden") == "embedding";
  dialect.stop_sequences = s.list("option.stop_sequence");
  if (s.has("option.openai_finish_reasons"))
    dialect.openai_finish_reasons = s.boolean("option.openai_finish_reasons");
  dialect.trust_request_template = s.boolean("trust_request_chat_template");
  dialect.slot_timeout_ms = milliseconds(s.duration("option.predict_timeout"));
  // Without rolling batch a call has the model for itself, and the limit is the whole call's.
  if (s.text("option.rolling_batch") == "disable") {
    dialect.deadline_ms = std::exchange(dialect.slot_timeout_ms, 0);
    set_pipeline(s, dialect);
  }
  dialect.read_timeout_ms = milliseconds(s.duration("chunked_read_timeout"));
  dialect.bad_request_status = static_cast<int>(s.integer("bad_request_http_code"));
  dialect.wlm_error_status = static_cast<int>(s.integer("wlm_error_http_code"));
  dialect.throttle_status = static_cast<int>(s.integer("throttle_error_http_code"));
  dialect.server_error_status = static_cast<int>(s.integer("server_error_http_code"));
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

int serve(const arguments& given, const typed_settings& typed) {
  auto from = sources_of(typed);
  if (!from)
    return fail(from.error());
  auto server = config::resolve_server(*from);
  if (!server)
    return fail(server.error());
  telemetry::configure_log(log_settings_of(server->values));
  caf::expected<std::filesystem::path> folder = std::filesystem::path{};
  if (!given.dummy)
    folder = config::model_folder(given.path, from->variables);
  if (!folder)
    return fail(folder.error());
  auto model = config::resolve_model(*from, server->values, *folder);
  if (!model)
    return fail(model.error());
  for (const auto& warnings : {server->warnings, model->warnings})
    for (const auto& warning : warnings)
      telemetry::log(telemetry::log_level::warn, {}, warning);
  if (auto problem = check_streaming(model->values))
    return fail(problem);
  auto where = config::listen_endpoint(server->values);
  if (!where)
    return fail(where.error());
  http::raise_file_limit();

  host running{server->values};
  auto spec = spec_of(model->values, folder->string(), given.dummy);
  // Before the model is loaded, so that a taken port is known at once.
  auto settings = server_settings_of(model->values, *where, spec.name);
  if (settings.dialect.pipeline)
    settings.dialect.generation_config = generation_config_of(spec.load.folder);
  auto front = http::server::open(running.system(), running.engine(), running.metrics(),
                                  std::move(settings));
  if (!front)
    return fail(front.error());
  // So is a taken port of this; until the model is there, peers are told that it is loading.
  if (auto problem = publish(running, server->values))
    return fail(problem);
  const auto url = url_of(*where, (*front)->port());
  const bool wait = server->values.boolean("wait_model_loading");
  if (!wait) {
    if (auto error = (*front)->listen())
      return fail(error);
    std::printf("\ntroupe listens on %s while the model loads; /ping tells when it is there\n",
                url.c_str());
    std::fflush(stdout);
  }
  auto ready = running.load(spec);
  if (!ready && wait)
    return fail(ready.error());
  if (wait)
    if (auto error = (*front)->listen())
      return fail(error);
  if (ready)
    print_hints(url, *ready);
  else if (code_of(ready.error()) != ec::cancelled)
    telemetry::log(telemetry::log_level::error, {},
                   "the model could not be loaded and /ping answers 500: " +
                       text_of(ready.error()));

  const bool stopped = !ready && code_of(ready.error()) == ec::cancelled;
  while (!stopped && wait_signal(1h) == 0) {
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
  sub->add_option(
         "path", given->path,
         "Model folder (config.json, *.safetensors, tokenizer.json); HF_MODEL_ID when left out")
      ->type_name("PATH");
  sub->add_flag("--dummy-model", given->dummy,
                "Serves a model without weights whose arithmetic is free, to measure the runtime");
  auto typed = add_setting_flags(*sub);
  sub->footer("Every option can also be set in PATH/serving.properties, in config.properties, by a "
              "variable "
              "of the environment or with -o; `troupe options` says which.");
  sub->callback([=, &chosen] { chosen = [=] { return serve(*given, *typed); }; });
}

} // namespace troupe::runtime
