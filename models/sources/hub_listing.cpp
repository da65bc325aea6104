#include "troupe/models/sources/hub_listing.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

#include <simdjson.h>

namespace troupe::models {

namespace {

/// What a server reads beside weights.
constexpr auto small_files = std::to_array<std::string_view>(
    {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
     "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
     "merges.txt", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
     "chat_template.json", "adapter_config.json", "serving.properties",
     "model.safetensors.index.json", "pytorch_model.bin.index.json"});

bool is_weights(std::string_view path) {
  return path.ends_with(".safetensors") && path.find('/') == std::string_view::npos &&
         (path.starts_with("model") || path.starts_with("adapter_model"));
}

/// Of PyTorch's own form, which is fetched only where there is no other.
bool is_pytorch(std::string_view path) {
  return path.starts_with("pytorch_model") && path.find('/') == std::string_view::npos;
}

bool stays_inside(std::string_view path) {
  if (path.empty() || path.front() == '/' || path.find('\\') != std::string_view::npos ||
      path.find('\0') != std::string_view::npos)
    return false;
  std::filesystem::path parts{path};
  return std::none_of(parts.begin(), parts.end(), [](const auto& part) { return part == ".."; });
}

caf::error bad(const std::string& what) {
  return caf::make_error(ec::bad_model, "the hub's answer " + what);
}

std::string text_at(simdjson::dom::element object, std::string_view key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? std::string{text} : std::string{};
}

uint64_t number_at(simdjson::dom::element object, std::string_view key) {
  uint64_t number = 0;
  return object[key].get(number) == simdjson::SUCCESS ? number : 0;
}

hub_file file_of(simdjson::dom::element entry) {
  hub_file out;
  out.path = text_at(entry, "rfilename");
  simdjson::dom::element large;
  if (entry["lfs"].get(large) == simdjson::SUCCESS && large.is_object()) {
    out.etag = text_at(large, "sha256");
    out.size = number_at(large, "size");
  } else {
    out.etag = text_at(entry, "blobId");
    out.size = number_at(entry, "size");
  }
  if (!is_blob_name(out.etag))
    out.etag.clear();
  return out;
}

} // namespace

bool is_blob_name(std::string_view text) {
  constexpr size_t longest = 128;
  return !text.empty() && text.size() <= longest &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

bool is_commit(std::string_view text) {
  constexpr size_t digits = 40;
  return text.size() == digits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

caf::expected<hub_listing> parse_listing(const std::string& json) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(json).get(root) != simdjson::SUCCESS || !root.is_object())
    return bad("is no JSON object");
  hub_listing out;
  out.commit = text_at(root, "sha");
  if (!is_commit(out.commit))
    return bad("names no commit");
  simdjson::dom::array files;
  if (root["siblings"].get(files) != simdjson::SUCCESS)
    return bad("lists no files");
  for (auto entry : files) {
    auto file = file_of(entry);
    if (!stays_inside(file.path))
      return bad("lists \"" + file.path.substr(0, 80) + "\", which is no path in a repository");
    out.files.push_back(std::move(file));
  }
  return out;
}

caf::expected<std::vector<hub_file>> wanted_files(const hub_listing& listing,
                                                  const std::string& id) {
  auto named = [&](std::string_view path) {
    return std::any_of(listing.files.begin(), listing.files.end(),
                       [&](const hub_file& f) { return f.path == path; });
  };
  const bool in_one = named("model.safetensors");
  const bool safe = std::any_of(listing.files.begin(), listing.files.end(),
                                [](const hub_file& f) { return is_weights(f.path); });
  const bool in_one_bin = named("pytorch_model.bin");
  std::vector<hub_file> out;
  bool weights = false;
  for (const auto& file : listing.files) {
    const bool pytorch = is_pytorch(file.path);
    if (pytorch && safe)
      continue;
    bool heavy = is_weights(file.path) || (pytorch && file.path.ends_with(".bin"));
    bool shard = heavy && file.path.starts_with("model-");
    bool index = file.path == "model.safetensors.index.json";
    if (in_one_bin && pytorch && file.path != "pytorch_model.bin")
      continue;
    bool small = std::find(small_files.begin(), small_files.end(), file.path) != small_files.end();
    if ((!heavy && !small) || (in_one && (shard || index)))
      continue;
    weights = weights || heavy;
    out.push_back(file);
  }
  if (!weights)
    return caf::make_error(
        ec::unsupported_model,
        id + " of the hub holds neither model*.safetensors nor pytorch_model*.bin, "
             "the forms of weights that are read; convert it (transformers: "
             "save_pretrained) and name the folder");
  return out;
}

} // namespace troupe::models
