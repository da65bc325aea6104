#include "troupe/models/loading/pytorch_file.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "troupe/models/loading/complaint.hpp"
#include "troupe/models/loading/pickle.hpp"
#include "troupe/models/loading/zip_directory.hpp"

namespace troupe::models {

namespace {

constexpr std::array<std::pair<std::string_view, tensor_type>, 10> storages = {{
    {"torch.FloatStorage", tensor_type::f32},
    {"torch.HalfStorage", tensor_type::f16},
    {"torch.BFloat16Storage", tensor_type::bf16},
    {"torch.DoubleStorage", tensor_type::f64},
    {"torch.LongStorage", tensor_type::i64},
    {"torch.IntStorage", tensor_type::i32},
    {"torch.ShortStorage", tensor_type::i16},
    {"torch.CharStorage", tensor_type::i8},
    {"torch.ByteStorage", tensor_type::u8},
    {"torch.BoolStorage", tensor_type::boolean},
}};

/// The archive's files by their names below its own folder.
class archive {
public:
  explicit archive(std::vector<zip_entry> entries) : entries_(std::move(entries)) {
    std::sort(entries_.begin(), entries_.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    constexpr std::string_view pickle_name = "data.pkl";
    for (const auto& one : entries_)
      if (one.name.ends_with(pickle_name)) {
        auto folder = one.name.substr(0, one.name.size() - pickle_name.size());
        if (folder.empty() || folder.find('/') == folder.size() - 1) {
          folder_ = std::move(folder);
          return;
        }
      }
  }

  const zip_entry* find(std::string_view name) const {
    const auto whole = folder_ + std::string{name};
    auto at = std::lower_bound(entries_.begin(), entries_.end(), whole,
                               [](const zip_entry& e, const auto& n) { return e.name < n; });
    return at != entries_.end() && at->name == whole ? &*at : nullptr;
  }

private:
  std::vector<zip_entry> entries_;
  std::string folder_;
};

std::optional<std::vector<uint64_t>> sizes_of(const pickle_value& from) {
  auto* items = from.as<pickle_sequence>();
  if (!items)
    return std::nullopt;
  std::vector<uint64_t> out;
  for (const auto* item : *items) {
    auto* size = item->as<int64_t>();
    if (!size || *size < 0)
      return std::nullopt;
    out.push_back(static_cast<uint64_t>(*size));
  }
  return out;
}

/// Whether elements stand one behind the other, the last dimension's closest together.
bool in_order(const std::vector<uint64_t>& shape, const std::vector<uint64_t>& strides) {
  uint64_t expected = 1;
  for (auto i = shape.size(); i-- > 0;) {
    if (shape[i] > 1 && strides[i] != expected)
      return false;
    if (__builtin_mul_overflow(expected, shape[i], &expected))
      return false;
  }
  return true;
}

class reader {
public:
  reader(const std::string& path, std::shared_ptr<const mapped_file> file, archive files)
      : complain_{path}, file_(std::move(file)), files_(std::move(files)) {}

  caf::expected<tensor_map> read(const pickle_dict& state) const {
    tensor_map out;
    for (const auto& [key, value] : state) {
      auto* name = key->as<std::string>();
      auto* call = value->as<pickle_call>();
      if (!name || !call)
        continue;
      auto tensor = rebuild(*name, *call);
      if (!tensor)
        return std::move(tensor.error());
      // As in a dict, the last one of a name counts.
      out.insert_or_assign(*name, std::move(*tensor));
    }
    return out;
  }

private:
  /// _rebuild_tensor_v2(storage, offset, size, stride, ...), or a parameter around it.
  caf::expected<stored_tensor> rebuild(const std::string& name, const pickle_call& call) const {
    const auto what = call.what.full();
    const auto& arguments = call.arguments;
    if (what == "torch._utils._rebuild_parameter" && !arguments.empty()) {
      auto* inner = arguments[0]->as<pickle_call>();
      if (inner && inner->what.full() != what)
        return rebuild(name, *inner);
    }
    if (what != "torch._utils._rebuild_tensor_v2" && what != "torch._utils._rebuild_tensor")
      return complain_(name, "would be made by calling " + what +
                                 ", and no code of the file is run: save the state dict of plain "
                                 "tensors, or as safetensors");
    auto* offset = arguments.size() >= 4 ? arguments[1]->as<int64_t>() : nullptr;
    if (!offset || *offset < 0)
      return complain_(name, "is described in a way that is not understood");
    auto shape = sizes_of(*arguments[2]);
    auto strides = sizes_of(*arguments[3]);
    if (!shape || !strides || shape->size() != strides->size())
      return complain_(name, "has a shape that is no list of sizes");
    if (!in_order(*shape, *strides))
      return complain_(name, "is stored in another order than that of its shape: save it with "
                             ".contiguous(), or as safetensors");
    return place(name, *arguments[0], static_cast<uint64_t>(*offset), std::move(*shape));
  }

  /// ("storage", type, key, location, elements)
  caf::expected<stored_tensor> place(const std::string& name, const pickle_value& storage,
                                     uint64_t offset, std::vector<uint64_t> shape) const {
    auto* reference = storage.as<pickle_reference>();
    auto* id = reference ? reference->id->as<pickle_sequence>() : nullptr;
    auto* type = id && id->size() >= 5 ? (*id)[1]->as<pickle_global>() : nullptr;
    auto* key = type ? (*id)[2]->as<std::string>() : nullptr;
    if (!key)
      return complain_(name, "has a storage that is not understood");
    auto known = std::find_if(storages.begin(), storages.end(),
                              [&](const auto& s) { return s.first == type->full(); });
    if (known == storages.end())
      return complain_(name, "is kept in a " + type->full() + ", which is not read");
    auto* entry = files_.find("data/" + *key);
    if (!entry)
      return complain_(name, "is kept in 'data/" + *key + "', which the archive lacks");
    if (!entry->stored)
      return complain_(name, "is kept in 'data/" + *key +
                                 "', which is compressed: save the file anew with torch.save");
    stored_tensor out;
    out.type = known->second;
    uint64_t elements = 1, begin = 0, bytes = 0, end = 0;
    bool fits = true;
    for (auto size : shape)
      fits = fits && !__builtin_mul_overflow(elements, size, &elements);
    const auto width = static_cast<uint64_t>(size_of(out.type));
    fits = fits && !__builtin_mul_overflow(offset, width, &begin) &&
           !__builtin_mul_overflow(elements, width, &bytes) &&
           !__builtin_add_overflow(begin, bytes, &end) && end <= entry->bytes;
    if (!fits)
      return complain_(name, "reaches beyond its storage of " + std::to_string(entry->bytes) +
                                 " bytes: the file is damaged, fetch it again");
    out.shape = std::move(shape);
    out.file = file_;
    out.offset = entry->offset + static_cast<size_t>(begin);
    out.bytes = static_cast<size_t>(bytes);
    if (out.offset % size_of(out.type) != 0)
      return complain_(name, "does not begin at a multiple of its elements' size: save the file "
                             "anew with torch.save");
    return out;
  }

  complaint complain_;
  std::shared_ptr<const mapped_file> file_;
  archive files_;
};

} // namespace

caf::expected<tensor_map> read_pytorch(const std::string& path) {
  auto opened = mapped_file::open(path);
  if (!opened)
    return opened.error();
  const std::shared_ptr<const mapped_file> file = *opened;
  const complaint complain{path};
  constexpr std::string_view zip_begin = "PK";
  const std::string_view content{reinterpret_cast<const char*>(file->data()), file->size()};
  if (!content.starts_with(zip_begin))
    return complain("is no archive of torch.save since PyTorch 1.6: load it with PyTorch and save "
                    "it anew, or as safetensors");
  auto entries = read_zip_directory(*file);
  if (!entries)
    return std::move(entries.error());
  archive files{std::move(*entries)};
  const auto* data = files.find("data.pkl");
  if (!data || !data->stored)
    return complain("has no readable data.pkl: it was not written by torch.save");
  if (const auto* order = files.find("byteorder");
      order && order->stored && content.substr(order->offset, order->bytes) != "little")
    return complain("was written on a big-endian machine, which is not read");
  auto values = read_pickle({file->data() + data->offset, data->bytes});
  if (!values)
    return complain(text_of(values.error()));
  auto* state = values->root->as<pickle_dict>();
  if (!state)
    return complain("holds something else than a state dict");
  auto out = reader{path, file, std::move(files)}.read(*state);
  if (out && !file->intact())
    return complain("was truncated while it was read");
  return out;
}

} // namespace troupe::models
