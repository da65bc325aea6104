#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "troupe/models/stage.hpp"

namespace troupe::models {

/// What one precision costs.
struct memory_estimate {
  std::string dtype; ///< "fp32" or "bf16", as `load_options::dtype`.
  quantization quantized = quantization::none;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes_per_token = 0;
  uint64_t kv_bytes_of_context = 0; ///< One sequence as long as the context.
};

/// What a folder is and whether we can serve it, for people. As much as can be found out is filled
/// in even where the folder turns out to be unusable.
struct folder_report {
  std::string folder;
  bool supported = false;
  std::string reason;       ///< Why not; empty when supported.
  ec problem = ec::none;    ///< The reason's code.
  std::string architecture; ///< Of config.json, also an unknown one.
  std::string summary;      ///< "30 layers, hidden 576, 9 heads (3 key/value) of 64, ..."
  uint32_t layers = 0;
  uint32_t vocabulary = 0;
  uint32_t context = 0;
  uint64_t parameters = 0;
  std::string stored_type; ///< "bf16"; of the weights on disk, most bytes win.
  uint64_t stored_bytes = 0;
  uint32_t tensors = 0;
  uint32_t unused_tensors = 0; ///< In the files, but not part of the model.
  std::string tokenizer; ///< "tokenizer.json", "made of vocab.json"; empty without a usable one.
  bool has_chat_template = false;
  std::vector<memory_estimate> memory;
};

/// Looks at a folder without loading it. Never fails: what is wrong stands in `reason`.
folder_report inspect_folder(const std::string& folder);

/// The report as lines of text.
std::string render(const folder_report& report);

} // namespace troupe::models
