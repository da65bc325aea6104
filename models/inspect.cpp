#include "troupe/models/inspect.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "troupe/models/decoder_model.hpp"
#include "troupe/models/placement.hpp"
#include "troupe/models/tokenizer/conversion.hpp"

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

std::string bytes_text(uint64_t bytes) {
  static constexpr std::array<const char*, 5> units = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

std::string count_text(uint64_t count) {
  char text[32];
  if (count >= 1'000'000'000)
    std::snprintf(text, sizeof(text), "%.2f billion", static_cast<double>(count) / 1e9);
  else
    std::snprintf(text, sizeof(text), "%.1f million", static_cast<double>(count) / 1e6);
  return text;
}

std::string_view bits_text(quantization how) {
  return how == quantization::int8 ? ", 8-bit" : how == quantization::fp4 ? ", 4-bit" : "";
}

std::string_view rope_text(rope_kind kind) {
  static constexpr std::array<std::string_view, 5> names = {"", "linear", "dynamic", "yarn",
                                                            "llama3"};
  return names[static_cast<size_t>(kind)];
}

std::string summary_of(const decoder_model& model) {
  const auto& c = model.config;
  auto text = std::to_string(c.layers) + " layers, hidden " + std::to_string(c.hidden) + ", " +
              std::to_string(c.heads) + " heads (" + std::to_string(c.kv_heads) +
              " key/value) of " + std::to_string(c.head_size) + ", MLP " +
              std::to_string(c.intermediate);
  if (model.recipe->positions == position_kind::rotary && c.rope.kind != rope_kind::plain)
    text += ", rope scaling " + std::string{rope_text(c.rope.kind)};
  if (!c.windows.empty())
    text +=
        ", sliding window " + std::to_string(*std::max_element(c.windows.begin(), c.windows.end()));
  if (c.tied)
    text += ", tied embeddings";
  return text;
}

/// The architecture's name also where we do not know it.
std::string architecture_in(const std::string& folder) {
  auto json = json_file::open((fs::path{folder} / "config.json").string());
  if (!json)
    return {};
  const auto names = json->texts("architectures");
  return names.empty() ? json->text("model_type", "") : names.front();
}

void refuse(folder_report& report, const caf::error& why) {
  report.reason = text_of(why);
  report.problem = code_of(why);
}

/// Older forms are converted, as loading would do, because only that tells whether they can be.
caf::error find_tokenizer(folder_report& report) {
  std::error_code ignored;
  if (fs::exists(fs::path{report.folder} / "tokenizer.json", ignored)) {
    report.tokenizer = "tokenizer.json";
    return {};
  }
  auto made = tokenizing::convert(report.folder);
  if (!made)
    return made.error();
  report.tokenizer = "made of " + fs::path{made->source}.filename().string();
  return {};
}

void describe_weights(folder_report& report, const decoder_model& model) {
  std::map<tensor_type, uint64_t> by_type;
  std::set<std::string> used;
  for (const auto& w : required_weights(model))
    used.insert(w.name);
  for (const auto& [name, tensor] : model.weights.tensors()) {
    by_type[tensor.type] += tensor.bytes;
    report.unused_tensors += used.count(name) == 0 ? 1 : 0;
  }
  report.tensors = static_cast<uint32_t>(model.weights.tensors().size());
  report.stored_bytes = model.weights.stored_bytes();
  const auto most =
      std::max_element(by_type.begin(), by_type.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != by_type.end())
    report.stored_type = to_string_view(most->first);
}

} // namespace

folder_report inspect_folder(const std::string& folder) {
  folder_report report;
  report.folder = folder;
  std::error_code ignored;
  const auto no_tokenizer = find_tokenizer(report);
  report.has_chat_template = fs::exists(fs::path{folder} / "chat_template.jinja", ignored);
  if (auto json = json_file::open((fs::path{folder} / "tokenizer_config.json").string()))
    report.has_chat_template = report.has_chat_template || json->has("chat_template");
  report.architecture = architecture_in(folder);
  auto read = read_configuration(folder);
  if (!read) {
    refuse(report, read.error());
    return report;
  }
  report.architecture = read->recipe->architecture;
  report.summary = summary_of(*read);
  report.layers = read->config.layers;
  report.vocabulary = read->config.vocabulary;
  report.context = read->config.context;
  report.parameters = read->parameters();
  for (const auto quantized : {quantization::none, quantization::int8, quantization::fp4})
    for (const auto* name : {"fp32", "bf16"}) {
      const auto need = memory_of(*read, *compute_type(name, read->config.stored), quantized, 1);
      report.memory.push_back({name, quantized, need.weight_bytes, need.kv_bytes_per_token,
                               need.kv_bytes_per_token * read->config.context});
    }
  auto opened = open_decoder(folder);
  if (!opened) {
    refuse(report, opened.error());
    return report;
  }
  describe_weights(report, **opened);
  if (no_tokenizer) {
    refuse(report, no_tokenizer);
    return report;
  }
  report.supported = true;
  return report;
}

std::string render(const folder_report& r) {
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value) {
    if (!value.empty())
      text += name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + value + "\n";
  };
  line("folder", r.folder);
  line("architecture", r.architecture);
  line("shape", r.summary);
  if (r.parameters > 0)
    line("parameters", count_text(r.parameters));
  if (r.context > 0) {
    line("context", std::to_string(r.context) + " tokens");
    line("vocabulary", std::to_string(r.vocabulary) + " tokens");
  }
  if (r.tensors > 0) {
    auto weights = bytes_text(r.stored_bytes) + " in " + std::to_string(r.tensors) +
                   " tensors, mostly " + r.stored_type;
    if (r.unused_tensors > 0)
      weights += " (" + std::to_string(r.unused_tensors) + " of them not used)";
    line("weights", weights);
  }
  line("tokenizer", (r.tokenizer.empty() ? "none" : r.tokenizer) +
                        (r.has_chat_template ? ", chat template" : ", no chat template"));
  for (const auto& m : r.memory)
    line("memory " + m.dtype + std::string{bits_text(m.quantized)},
         bytes_text(m.weight_bytes) + " weights, " + bytes_text(m.kv_bytes_per_token) +
             " KV per token, " + bytes_text(m.kv_bytes_of_context) + " for a full context");
  line("supported", r.supported ? "yes" : "no: " + r.reason);
  return text;
}

} // namespace troupe::models
