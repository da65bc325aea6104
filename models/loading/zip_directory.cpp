#include "troupe/models/loading/zip_directory.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace troupe::models {

namespace {

constexpr uint32_t local_mark = 0x04034b50;
constexpr uint32_t central_mark = 0x02014b50;
constexpr uint32_t end_mark = 0x06054b50;
constexpr uint32_t wide_end_mark = 0x06064b50;
constexpr uint32_t wide_locator_mark = 0x07064b50;
constexpr size_t local_size = 30, central_size = 46, end_size = 22, wide_end_size = 56,
                 locator_size = 20;
constexpr size_t longest_comment = 0xFFFF;
constexpr uint32_t in_wide_form = 0xFFFFFFFF;

/// Reads little-endian numbers of a file, and nothing beyond its end.
class bytes_of {
public:
  explicit bytes_of(const mapped_file& file) : file_(file) {}

  bool holds(uint64_t offset, uint64_t count) const {
    return offset <= file_.size() && count <= file_.size() - offset;
  }
  /// @pre holds(offset, sizeof(T))
  template <class T>
  T at(uint64_t offset) const {
    T out;
    std::memcpy(&out, file_.data() + offset, sizeof out);
    return out;
  }
  std::string text(uint64_t offset, size_t count) const {
    return {reinterpret_cast<const char*>(file_.data()) + offset, count};
  }
  size_t size() const { return file_.size(); }

private:
  const mapped_file& file_;
};

struct directory {
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint64_t offset = 0;
};

/// The end record stands at the end, behind it a comment at most.
std::optional<uint64_t> find_end(const bytes_of& file) {
  if (file.size() < end_size)
    return std::nullopt;
  const uint64_t last = file.size() - end_size;
  const uint64_t first = last > longest_comment ? last - longest_comment : 0;
  for (auto at = last;; --at) {
    if (file.at<uint32_t>(at) == end_mark && file.at<uint16_t>(at + 20) == last - at)
      return at;
    if (at == first)
      return std::nullopt;
  }
}

std::optional<directory> find_directory(const bytes_of& file) {
  const auto end = find_end(file);
  if (!end)
    return std::nullopt;
  directory out{file.at<uint16_t>(*end + 10), file.at<uint32_t>(*end + 12),
                file.at<uint32_t>(*end + 16)};
  if (*end >= locator_size && file.at<uint32_t>(*end - locator_size) == wide_locator_mark) {
    const auto wide = file.at<uint64_t>(*end - locator_size + 8);
    if (!file.holds(wide, wide_end_size) || file.at<uint32_t>(wide) != wide_end_mark)
      return std::nullopt;
    out = {file.at<uint64_t>(wide + 32), file.at<uint64_t>(wide + 40),
           file.at<uint64_t>(wide + 48)};
  }
  return file.holds(out.offset, out.bytes) ? std::optional{out} : std::nullopt;
}

/// Sizes and places that need more than 32 bits stand in an extra field, in a fixed order, each
/// only when its plain form says so. False: they do not.
bool widen(const bytes_of& file, uint64_t extra, size_t extra_bytes, uint64_t& unpacked,
           uint64_t& packed, uint64_t& local) {
  constexpr uint16_t wide_id = 1;
  const auto end = extra + extra_bytes;
  while (end - extra >= 4) {
    const auto id = file.at<uint16_t>(extra);
    const uint64_t bytes = file.at<uint16_t>(extra + 2);
    extra += 4;
    if (bytes > end - extra)
      return false;
    if (id == wide_id) {
      auto at = extra;
      for (auto* number : {&unpacked, &packed, &local}) {
        if (*number != in_wide_form)
          continue;
        if (extra + bytes - at < sizeof(uint64_t))
          return false;
        *number = file.at<uint64_t>(at);
        at += sizeof(uint64_t);
      }
      return true;
    }
    extra += bytes;
  }
  return unpacked != in_wide_form && packed != in_wide_form && local != in_wide_form;
}

/// Reads the entry at `at` and moves on to the next one.
std::optional<zip_entry> read_entry(const bytes_of& file, uint64_t& at, uint64_t end) {
  if (end - at < central_size || file.at<uint32_t>(at) != central_mark)
    return std::nullopt;
  const auto flags = file.at<uint16_t>(at + 8);
  const auto method = file.at<uint16_t>(at + 10);
  uint64_t packed = file.at<uint32_t>(at + 20);
  uint64_t unpacked = file.at<uint32_t>(at + 24);
  const size_t name_bytes = file.at<uint16_t>(at + 28);
  const size_t extra_bytes = file.at<uint16_t>(at + 30);
  const size_t comment_bytes = file.at<uint16_t>(at + 32);
  uint64_t local = file.at<uint32_t>(at + 42);
  if (end - at - central_size < name_bytes + extra_bytes + comment_bytes)
    return std::nullopt;
  if (!widen(file, at + central_size + name_bytes, extra_bytes, unpacked, packed, local))
    return std::nullopt;
  if (!file.holds(local, local_size) || file.at<uint32_t>(local) != local_mark)
    return std::nullopt;
  zip_entry out;
  out.name = file.text(at + central_size, name_bytes);
  out.stored = method == 0 && (flags & 1) == 0 && packed == unpacked;
  const auto data =
      local + local_size + file.at<uint16_t>(local + 26) + file.at<uint16_t>(local + 28);
  if (!file.holds(data, packed))
    return std::nullopt;
  out.offset = static_cast<size_t>(data);
  out.bytes = static_cast<size_t>(packed);
  at += central_size + name_bytes + extra_bytes + comment_bytes;
  return out;
}

} // namespace

caf::expected<std::vector<zip_entry>> read_zip_directory(const mapped_file& mapped) {
  const bytes_of file{mapped};
  auto damaged = [&](const std::string& what) {
    return caf::make_error(ec::bad_model, "'" + mapped.path() + "' " + what);
  };
  const auto found = find_directory(file);
  if (!found)
    return damaged("is no zip archive, or is truncated: fetch it again");
  std::vector<zip_entry> out;
  auto at = found->offset;
  for (uint64_t i = 0; i < found->entries; ++i) {
    auto entry = read_entry(file, at, found->offset + found->bytes);
    if (!entry)
      return damaged("is a zip archive whose entry " + std::to_string(i) +
                     " is damaged: fetch it again");
    out.push_back(std::move(*entry));
  }
  return out;
}

} // namespace troupe::models
