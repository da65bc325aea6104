#include "troupe/runtime/model_setup.hpp"

#include <algorithm>
#include <fstream>
#include <thread>
#include <utility>

#include "troupe/config/rolling_batch.hpp"
#include "troupe/models/loading/json_file.hpp"

namespace troupe::runtime {

namespace {

namespace fs = std::filesystem;

uint32_t milliseconds(std::chrono::milliseconds time) {
  return static_cast<uint32_t>(time.count());
}

uint32_t cores() {
  return std::max(1u, std::thread::hardware_concurrency());
}

/// A relative path means the model folder, or else the working directory.
std::string template_file(const std::string& said, const fs::path& folder) {
  if (said.empty())
    return {};
  std::error_code code; // What cannot be looked at is said where it is read.
  if (const auto in_folder = folder / said; fs::is_regular_file(in_folder, code))
    return in_folder.string();
  return fs::absolute(said, code).string();
}

/// The variable's value, empty when it is unset.
std::string variable(const config::environment& variables, std::string_view name) {
  auto at = variables.find(name);
  return at == variables.end() ? std::string{} : at->second;
}

/// The first of `places` whose variable is set, with what goes behind it.
fs::path first_of(const config::environment& variables,
                  std::initializer_list<std::pair<const char*, const char*>> places) {
  for (auto [name, below] : places)
    if (auto value = variable(variables, name); !value.empty())
      return below[0] == 0 ? fs::path{value} : fs::path{value} / below;
  return fs::temp_directory_path() / "troupe";
}

bool is_on(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text == "1" || text == "on" || text == "yes" || text == "true";
}

std::string token_of(const config::environment& variables, const fs::path& hub_home) {
  for (const auto* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (auto token = variable(variables, name); !token.empty())
      return token;
  auto place = variable(variables, "HF_TOKEN_PATH");
  std::string token;
  std::ifstream{place.empty() ? hub_home / "token" : fs::path{place}} >> token;
  return token;
}

std::string architecture_in(const fs::path& folder) {
  auto json = models::json_file::open((folder / "config.json").string());
  if (!json)
    return {};
  const auto names = json->texts("architectures");
  return names.empty() ? std::string{} : names.front();
}

/// Where the weights are: option.model_id, which may be a folder beside serving.properties or
/// anything that can be fetched, else `folder`.
caf::expected<fs::path> fetch_weights(const config::settings& model, const fs::path& folder,
                                      const models::source_options& options,
                                      const models::fetch_progress& progress,
                                      std::stop_token stop) {
  const auto& id = model.text("option.model_id");
  if (id.empty())
    return folder;
  const auto beside = config::weights_folder(model, folder).string();
  return models::fetch_model(beside, options, progress, std::move(stop));
}

memory_demand demand_of(int64_t required_mb, int64_t reserved_mb) {
  constexpr int shift = 20;
  return {static_cast<uint64_t>(required_mb) << shift, static_cast<uint64_t>(reserved_mb) << shift};
}

void fill_in_limits(prepared_model& out, const config::environment& variables) {
  const auto& s = out.settings;
  out.batch_size = static_cast<uint32_t>(s.integer("batch_size"));
  out.max_batch_delay = s.duration("max_batch_delay");
  out.max_idle_time = s.duration("max_idle_time");
  out.job_queue_size = static_cast<uint32_t>(s.integer("job_queue_size"));
  out.cpu_workers = config::resolve_workers(s, false, variables, cores());
  out.gpu_workers = config::resolve_workers(s, true, variables, cores());
  const auto required = s.integer("required_memory_mb"), reserved = s.integer("reserved_memory_mb");
  out.cpu_memory = demand_of(required, reserved);
  out.gpu_memory =
      demand_of(s.has("gpu.required_memory_mb") ? s.integer("gpu.required_memory_mb") : required,
                s.has("gpu.reserved_memory_mb") ? s.integer("gpu.reserved_memory_mb") : reserved);
}

/// Whether anything in the folder says that it is a model.
bool holds_model(const fs::path& folder) {
  std::error_code code; // what cannot be looked at is not there
  return fs::exists(folder / "config.json", code) ||
         fs::exists(folder / "adapter_config.json", code);
}

/// All that follows from the settings and the folder of the weights.
caf::expected<prepared_model> prepared(config::resolved resolved, const config::settings& server,
                                       const config::environment& variables,
                                       const fs::path& weights, bool dummy) {
  prepared_model out;
  out.settings = std::move(resolved.values);
  out.warnings = std::move(resolved.warnings);
  if (!dummy)
    out.architecture = architecture_in(weights);
  auto mode = config::resolve_rolling_batch(out.settings, server, out.architecture);
  if (!mode)
    return std::move(mode.error());
  if (!mode->rolling && out.settings.integer("batch_size") > 1 &&
      out.settings.text("option.enable_streaming") != "false")
    return caf::make_error(
        ec::bad_option,
        "option.enable_streaming (" + out.settings.origin_of("option.enable_streaming").where +
            ") cannot be with batch_size > 1 (" + out.settings.origin_of("batch_size").where +
            "): leave one of them out");
  out.rolling_batch = mode->rolling;
  out.rolling_batch_because = mode->because;
  constexpr config::key<config::kind::choice> rolling_batch{"option.rolling_batch"};
  out.settings.put(rolling_batch.index(), std::string{mode->rolling ? "scheduler" : "disable"},
                   {out.settings.origin_of("option.rolling_batch").from, mode->because});
  out.spec = spec_of(out.settings, weights.string(), dummy);
  out.dialect = dialect_of(out.settings, out.spec.name);
  fill_in_limits(out, variables);
  return out;
}

/// Without rolling batch requests are calls of a transformers pipeline.
void set_pipeline(const config::settings& model, http::dialect_settings& to) {
  using streaming = http::dialect_settings::streaming;
  to.pipeline = true;
  to.call_batch = static_cast<uint32_t>(model.integer("batch_size"));
  const auto& old_way = model.text("option.enable_streaming");
  to.legacy_streaming = old_way == "true"          ? streaming::pieces
                        : old_way == "huggingface" ? streaming::with_prompt
                                                   : streaming::off;
}

/// What the model's folder says about generation; empty where it says nothing.
std::string generation_config_of(const std::string& folder) {
  std::ifstream file{fs::path{folder} / "generation_config.json"};
  return {std::istreambuf_iterator<char>{file}, {}};
}

} // namespace

models::source_options source_options_of(const config::settings& model,
                                         const config::environment& variables) {
  models::source_options out;
  const auto& folder = model.text("download_dir");
  out.unpack_folder =
      !folder.empty()
          ? fs::path{folder}
          : first_of(variables, {{"XDG_CACHE_HOME", "troupe"}, {"HOME", ".cache/troupe"}});
  const auto hub_home = first_of(
      variables,
      {{"HF_HOME", ""}, {"XDG_CACHE_HOME", "huggingface"}, {"HOME", ".cache/huggingface"}});
  out.hub_cache = hub_home / "hub";
  for (const auto* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (auto place = variable(variables, name); !place.empty()) {
      out.hub_cache = place;
      break;
    }
  if (auto endpoint = variable(variables, "HF_ENDPOINT"); !endpoint.empty())
    out.hub_endpoint = endpoint.substr(0, endpoint.find_last_not_of('/') + 1);
  out.hub_token = token_of(variables, hub_home);
  out.offline = is_on(variable(variables, "HF_HUB_OFFLINE"));
  out.revision = model.text("option.revision");
  return out;
}

caf::expected<prepared_model> prepare_model(const config::model_request& request,
                                            const config::sources& from,
                                            const config::settings& server,
                                            const models::fetch_progress& progress,
                                            std::stop_token stop) {
  auto sources = from;
  sources.arguments = config::arguments_of(request);
  // The revision of a model of the hub has to be known before there is a serving.properties.
  auto outside = config::resolve_model(sources, server, {});
  if (!outside)
    return std::move(outside.error());
  std::vector<std::string> notices;
  auto options_of = [&](const config::settings& model) {
    auto options = source_options_of(model, from.variables);
    options.warn = [&notices](const std::string& sentence) { notices.push_back(sentence); };
    return options;
  };
  auto folder = models::fetch_model(request.url, options_of(outside->values), progress, stop);
  if (!folder)
    return std::move(folder.error());
  auto resolved = config::resolve_model(sources, server, *folder);
  if (!resolved)
    return std::move(resolved.error());
  auto weights = fetch_weights(resolved->values, *folder, options_of(resolved->values), progress,
                               std::move(stop));
  if (!weights)
    return std::move(weights.error());
  if (!holds_model(*weights))
    return caf::make_error(ec::model_not_found,
                           "'" + weights->string() +
                               "' has no config.json: it is no Hugging Face model folder");
  auto out = prepared(std::move(*resolved), server, from.variables, *weights, false);
  if (!out)
    return out;
  out->warnings.insert(out->warnings.end(), notices.begin(), notices.end());
  if (!request.name.empty())
    out->spec.name = request.name;
  else if (!out->settings.has("option.served_model_name"))
    out->spec.name = config::inferred_name(request.url);
  out->dialect.default_model = out->spec.name;
  if (out->dialect.pipeline)
    out->dialect.generation_config = generation_config_of(out->spec.load.folder);
  out->url = request.url;
  out->folder = std::move(*folder);
  out->version = request.version;
  out->at_startup = request.at_startup;
  return out;
}

caf::expected<prepared_model> prepare_dummy(const config::sources& from,
                                            const config::settings& server) {
  auto resolved = config::resolve_model(from, server, {});
  if (!resolved)
    return std::move(resolved.error());
  auto out = prepared(std::move(*resolved), server, from.variables, {}, true);
  if (out)
    out->at_startup = true;
  return out;
}

namespace {

/// LMI's old switches count where option.quantize is not set, that for four bits first.
models::quantization quantization_of(const config::settings& model) {
  const auto wish = model.text("option.quantize");
  if (wish == "bitsandbytes8")
    return models::quantization::int8;
  if (wish == "bitsandbytes4" || model.boolean("option.load_in_4bit"))
    return models::quantization::fp4;
  return model.boolean("option.load_in_8bit") ? models::quantization::int8
                                              : models::quantization::none;
}

} // namespace

model_spec spec_of(const config::settings& model, const std::string& folder, bool dummy) {
  model_spec spec;
  spec.name = dummy && model.text("option.served_model_name").empty()
                  ? "dummy"
                  : config::served_name(model, folder);
  spec.load.folder = dummy ? "" : folder;
  spec.load.dummy = dummy;
  spec.load.dummy_step_us =
      static_cast<uint32_t>(model.number("option.dummy_step_ms") * 1000.0 + 0.5);
  spec.load.dtype = model.text("option.dtype");
  spec.load.quantized = quantization_of(model);
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
  spec.load.max_sequences = static_cast<uint32_t>(model.integer("option.max_rolling_batch_size"));
  if (model.text("option.rolling_batch") == "disable") {
    spec.call_batch = static_cast<uint32_t>(model.integer("batch_size"));
    spec.call_delay_ms = static_cast<uint32_t>(model.duration("max_batch_delay").count());
  }
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
      tokenizers > 0 ? static_cast<uint32_t>(tokenizers) : std::clamp(cores() / 2, 1u, 4u);
  spec.retry_threshold = static_cast<uint32_t>(model.integer("retry_threshold"));
  spec.loading_timeout_ms =
      static_cast<uint32_t>(model.duration("option.model_loading_timeout").count());
  spec.trust_request_template = model.boolean("trust_request_chat_template");
  spec.chat_template = template_file(model.text("option.chat_template"), folder);
  spec.prefix_cache = model.boolean("option.prefix_cache");
  return spec;
}

http::dialect_settings dialect_of(const config::settings& model, const std::string& name) {
  http::dialect_settings dialect;
  dialect.default_model = name;
  dialect.output_formatter = model.text("option.output_formatter");
  dialect.tgi_compat = model.boolean("option.tgi_compat");
  dialect.decoding_strategy = model.text("option.decoding_strategy");
  dialect.contrastive_embeddings = model.text("option.contrastive_hidden") == "embedding";
  dialect.stop_sequences = model.list("option.stop_sequence");
  if (model.has("option.openai_finish_reasons"))
    dialect.openai_finish_reasons = model.boolean("option.openai_finish_reasons");
  dialect.trust_request_template = model.boolean("trust_request_chat_template");
  dialect.slot_timeout_ms = milliseconds(model.duration("option.predict_timeout"));
  // Without rolling batch a call has the model for itself, and the limit is the whole call's.
  if (model.text("option.rolling_batch") == "disable") {
    dialect.deadline_ms = std::exchange(dialect.slot_timeout_ms, 0);
    set_pipeline(model, dialect);
  }
  dialect.read_timeout_ms = milliseconds(model.duration("chunked_read_timeout"));
  dialect.bad_request_status = static_cast<int>(model.integer("bad_request_http_code"));
  dialect.wlm_error_status = static_cast<int>(model.integer("wlm_error_http_code"));
  dialect.throttle_status = static_cast<int>(model.integer("throttle_error_http_code"));
  dialect.server_error_status = static_cast<int>(model.integer("server_error_http_code"));
  return dialect;
}

} // namespace troupe::runtime
