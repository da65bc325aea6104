#include "troupe/runtime/model_check.hpp"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "troupe/models/host_memory.hpp"
#include "troupe/runtime/help.hpp"

namespace troupe::runtime {

namespace {

namespace fs = std::filesystem;
using weight = finding::weight;

std::string_view word_of(weight as) {
  switch (as) {
  case weight::note:
    return "note";
  case weight::warning:
    return "warning";
  case weight::error:
    return "error";
  }
  return {};
}

std::string seconds_text(std::chrono::milliseconds time) {
  std::ostringstream out;
  out << static_cast<double>(time.count()) / 1000 << " s";
  return out.str();
}

/// What lies in the folder that nothing looks at.
void look_around(model_report& report) {
  const fs::path folder{report.folder.folder};
  std::error_code code; // what cannot be looked at is the folder report's matter
  std::string scripts;
  for (fs::directory_iterator at{folder, code}, end; !code && at != end; at.increment(code)) {
    const auto name = at->path().filename().string();
    if (name.ends_with(".py") || name == "requirements.txt")
      scripts += (scripts.empty() ? "" : ", ") + name;
  }
  if (!scripts.empty())
    report.findings.push_back(
        {weight::warning, scripts + ": Python code of a model cannot run here and is ignored"});
  if (fs::is_directory(folder / "adapters", code))
    report.findings.push_back(
        {weight::warning,
         "adapters/: adapters are not available; the model is served without them"});
  const auto& own_template = report.model.spec.chat_template;
  if (!own_template.empty() && !fs::is_regular_file(own_template, code))
    report.findings.push_back(
        {weight::error, "option.chat_template: there is no file " + own_template});
  if (own_template.empty() && !report.folder.has_chat_template && report.folder.supported)
    report.findings.push_back(
        {weight::note, "there is no chat template, so chat requests are refused; prompts work"});
}

void look_at_other_weights(model_report& report, const fs::path& folder) {
  std::error_code code; // as above
  if (report.model.spec.load.folder == folder.string())
    return;
  for (const auto* name : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(folder / name, code))
      report.findings.push_back(
          {weight::warning, name + std::string{" in "} + folder.string() +
                                " is not used: option.model_id names the model in " +
                                report.model.spec.load.folder});
}

void look_at_memory(model_report& report) {
  const auto free_bytes = models::available_memory();
  const auto& load = report.model.spec.load;
  const auto wanted = load.dtype == "bf16" ? "bf16" : "fp32";
  for (const auto& estimate : report.folder.memory) {
    if (estimate.dtype != wanted || estimate.quantized != load.quantized)
      continue;
    if (free_bytes > 0 && estimate.weight_bytes > free_bytes)
      report.findings.push_back(
          {weight::warning, "weights take " + std::to_string(estimate.weight_bytes >> 20) +
                                " MiB as " + wanted + " on the CPU, and " +
                                std::to_string(free_bytes >> 20) + " MiB are free"});
    const auto context = load.max_model_len > 0
                             ? std::min(load.max_model_len, report.folder.context)
                             : report.folder.context;
    const auto whole = estimate.kv_bytes_per_token * context;
    if (load.kv_cache_bytes > 0 && load.kv_cache_bytes < whole)
      report.findings.push_back(
          {weight::warning, "option.kv_cache_bytes holds " +
                                std::to_string(load.kv_cache_bytes /
                                               std::max<uint64_t>(1, estimate.kv_bytes_per_token)) +
                                " tokens as " + wanted + ", less than one context of " +
                                std::to_string(context) + ": longer requests are refused"});
  }
}

void add_lines(model_report& report, weight as, const std::string& text) {
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);)
    report.findings.push_back({as, line});
}

std::string batching_text(const prepared_model& m) {
  if (m.rolling_batch)
    return "continuous, up to " + std::to_string(m.spec.load.max_sequences) + " sequences at once";
  if (m.batch_size == 1)
    return "one call after another";
  return "calls in batches of up to " + std::to_string(m.batch_size) +
         ", each filled for at most " + seconds_text(m.max_batch_delay);
}

std::string devices_text(const models::load_options& load) {
  if (!load.device_map.empty())
    return "device_map " + load.device_map;
  if (load.devices == "*")
    return "GPUs if there are any, else the CPU";
  return load.devices;
}

} // namespace

bool model_report::has(finding::weight as) const {
  return std::any_of(findings.begin(), findings.end(),
                     [&](const finding& f) { return f.as == as; });
}

model_report check_model(const config::model_request& request, const config::sources& from,
                         const config::settings& server) {
  model_report report;
  report.url = request.url;
  auto offline = from;
  offline.variables["HF_HUB_OFFLINE"] = "1";
  auto model = prepare_model(request, offline, server, {}, {});
  if (!model) {
    add_lines(report, weight::error, text_of(model.error()));
    return report;
  }
  report.model = std::move(*model);
  report.folder = models::inspect_folder(report.model.spec.load.folder);
  if (!report.folder.supported)
    report.findings.push_back({weight::error, report.folder.reason});
  for (const auto& warning : report.model.warnings)
    report.findings.push_back({weight::warning, warning});
  // Settings as they are said, before rolling_batch was resolved.
  if (auto said = config::resolve_model(offline, server, report.model.folder))
    for (auto& one : contradictions(said->values, server, report.folder.context))
      report.findings.push_back(std::move(one));
  look_around(report);
  look_at_other_weights(report, report.model.folder);
  look_at_memory(report);
  std::stable_sort(report.findings.begin(), report.findings.end(),
                   [](const finding& a, const finding& b) { return a.as > b.as; });
  return report;
}

std::string render(const model_report& report) {
  std::string out;
  constexpr size_t column = 14;
  auto line = [&](std::string name, const std::string& value) {
    name.resize(std::max(column, name.size() + 1), ' ');
    out += name + value + '\n';
  };
  const auto& m = report.model;
  line("model", report.url);
  if (!m.spec.name.empty()) {
    line("served as", m.spec.name + (m.version.empty() ? "" : ", version " + m.version));
    line("batching", batching_text(m) + ", because of " + m.rolling_batch_because);
    line("devices", devices_text(m.spec.load));
    line("dtype", m.spec.load.dtype.empty() ? "that of config.json on GPUs, fp32 on the CPU"
                                            : m.spec.load.dtype);
    if (m.spec.load.quantized != models::quantization::none)
      line("quantized", m.spec.load.quantized == models::quantization::int8
                            ? "layers to 8 bits, as LLM.int8() of bitsandbytes"
                            : "layers to 4 bits, as fp4 of bitsandbytes");
    line("queue", std::to_string(m.job_queue_size) + " requests, a batch slot within " +
                      seconds_text(m.settings.duration("option.predict_timeout")));
    line("loading", "within " + seconds_text(m.settings.duration("option.model_loading_timeout")));
  }
  if (!report.folder.folder.empty())
    out += models::render(report.folder);
  for (const auto& one : report.findings)
    out += '\n' + wrapped(std::string{word_of(one.as)} + ": " + one.text, help_width(), 2);
  if (!report.findings.empty())
    out += '\n';
  return out;
}

} // namespace troupe::runtime
