#include "troupe/models/loading/checkpoint.hpp"

#include <filesystem>
#include <set>

#include "troupe/models/loading/json_file.hpp"
#include "troupe/models/loading/pytorch_file.hpp"

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

caf::error bad(const std::string& text) {
  return caf::make_error(ec::bad_model, text);
}

caf::error no_weights(const std::string& folder) {
  for (const char* other : {"model.gguf", "tf_model.h5", "flax_model.msgpack"}) {
    std::error_code ignored;
    if (fs::exists(fs::path{folder} / other, ignored))
      return bad(
          "'" + folder + "' holds its weights as " + other +
          ", which is not read: convert them to safetensors (transformers: save_pretrained)");
  }
  return bad("'" + folder +
             "' has neither model.safetensors nor pytorch_model.bin, nor the "
             ".index.json of either");
}

/// Merges one file's tensors; `index` is empty or says which tensors the file is to hold.
caf::error merge(tensor_map& all, tensor_map&& part, const std::string& file) {
  for (auto& [name, tensor] : part) {
    auto [place, fresh] = all.emplace(name, std::move(tensor));
    if (!fresh)
      return bad("tensor '" + name + "' is in '" + place->second.file->path() + "' and again in '" +
                 file + "'");
  }
  return {};
}

using reader = caf::expected<tensor_map> (*)(const std::string& path);

/// The files that an index lists.
caf::expected<tensor_map> read_indexed(const std::string& folder, const std::string& index_path,
                                       reader read) {
  auto index = json_file::open(index_path);
  if (!index)
    return index.error();
  auto map = index->string_map("weight_map");
  if (!map)
    return map.error();
  std::set<std::string> files;
  for (const auto& [tensor, file] : *map) {
    // The index comes from outside: it may only name its neighbours.
    if (file.empty() || file == "." || file == ".." ||
        file.find_first_of("/\\") != std::string::npos || file.find('\0') != std::string::npos)
      return bad("'" + index_path + "' puts tensor '" + tensor + "' into '" + file +
                 "', which is no file name in this folder");
    files.insert(file);
  }
  tensor_map result;
  std::error_code ignored;
  for (const auto& file : files) {
    const auto path = (fs::path{folder} / file).string();
    if (!fs::exists(path, ignored))
      return bad("'" + index_path + "' names the file '" + file + "', which is missing");
    auto part = read(path);
    if (!part)
      return part.error();
    if (auto err = merge(result, std::move(*part), path))
      return err;
  }
  for (const auto& [tensor, file] : *map) {
    auto found = result.find(tensor);
    if (found == result.end() || fs::path{found->second.file->path()}.filename() != file)
      return bad("'" + index_path + "' puts tensor '" + tensor + "' into '" + file +
                 "', which does not hold it");
  }
  return result;
}

} // namespace

caf::expected<checkpoint> checkpoint::open(const std::string& folder) {
  struct form {
    const char* single;
    const char* index;
    reader read;
  };
  static constexpr form forms[] = {
      {"model.safetensors", "model.safetensors.index.json", read_safetensors},
      {"pytorch_model.bin", "pytorch_model.bin.index.json", read_pytorch},
  };
  checkpoint result;
  std::error_code ignored;
  for (const auto& one : forms) {
    const auto single = (fs::path{folder} / one.single).string();
    const auto index = (fs::path{folder} / one.index).string();
    auto tensors = fs::exists(single, ignored)  ? one.read(single)
                   : fs::exists(index, ignored) ? read_indexed(folder, index, one.read)
                                                : caf::expected<tensor_map>{caf::error{}};
    if (!tensors && !tensors.error())
      continue;
    if (!tensors)
      return std::move(tensors.error());
    result.tensors_ = std::move(*tensors);
    return result;
  }
  return no_weights(folder);
}

const stored_tensor* checkpoint::find(std::string_view name) const {
  auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

uint64_t checkpoint::stored_bytes() const {
  uint64_t sum = 0;
  for (const auto& [name, tensor] : tensors_)
    sum += tensor.bytes;
  return sum;
}

} // namespace troupe::models
