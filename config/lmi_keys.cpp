#include "troupe/config/lmi_keys.hpp"

#include <algorithm>
#include <array>

namespace troupe::config {

namespace {

constexpr auto server_keys = std::to_array<std::string_view>(
    {"cluster_address", "plugin_folder", "use_native_io", "io_ratio"});

constexpr auto model_keys = std::to_array<std::string_view>(
    {"translatorFactory", "translator", "application", "option.pythonExecutable",
     "option.enable_venv", "option.env", "option.bedrock_compat", "option.multi_gpu",
     "option.waiting_steps", "option.async_mode", "option.normalize",
     "option.enable_auto_tool_choice", "option.tool_call_parser"});

constexpr auto adapter_keys = std::to_array<std::string_view>(
    {"option.is_peft_model", "option.enable_lora", "option.max_loras", "option.max_lora_rank",
     "option.max_cpu_loras"});

constexpr auto speculation_keys = std::to_array<std::string_view>(
    {"option.speculative_draft_model", "option.draft_model_id", "option.spec_length"});

} // namespace

bool is_lmi_key(std::string_view key) {
  auto in = [&](const auto& keys) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  return in(server_keys) || in(model_keys) || in(adapter_keys) || in(speculation_keys);
}

} // namespace troupe::config
