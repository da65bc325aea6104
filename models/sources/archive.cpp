#include "troupe/models/sources/archive.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "troupe/config/model_request.hpp"
#include "troupe/models/sources/file_lock.hpp"

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t granted_bytes = uint64_t{64} << 20;

struct close_reader {
  void operator()(::archive* a) const { archive_read_free(a); }
};
using reader = std::unique_ptr<::archive, close_reader>;

/// A file that is being written; closed at the end.
class output_file {
public:
  explicit output_file(const fs::path& path)
      : descriptor_{
            ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)} {}
  ~output_file() {
    if (descriptor_ >= 0)
      ::close(descriptor_);
  }
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;

  bool is_open() const { return descriptor_ >= 0; }

  bool write(const char* bytes, size_t size, int64_t offset) {
    while (size > 0) {
      auto n = ::pwrite(descriptor_, bytes, size, offset);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return false;
      bytes += n;
      size -= static_cast<size_t>(n);
      offset += n;
    }
    return true;
  }

private:
  int descriptor_;
};

/// Writes one archive's entries below a folder, within limits.
class unpacking {
public:
  unpacking(fs::path archive, fs::path into, const archive_limits& limits,
            const fetch_progress& progress, std::stop_token stop)
      : archive_{std::move(archive)}, into_{std::move(into)}, limits_{limits}, progress_{progress},
        stop_{std::move(stop)} {}

  caf::error run() {
    std::error_code code;
    packed_bytes_ = fs::file_size(archive_, code);
    if (code)
      return refuse("cannot be read: " + code.message());
    most_bytes_ =
        std::min(limits_.bytes, std::max(granted_bytes, packed_bytes_ * limits_.expansion));
    reader in{archive_read_new()};
    for (auto accept : {archive_read_support_format_zip, archive_read_support_format_tar,
                        archive_read_support_filter_gzip})
      accept(in.get());
    constexpr size_t block = 1 << 20;
    if (archive_read_open_filename(in.get(), archive_.c_str(), block) != ARCHIVE_OK)
      return damaged(in.get());
    while (true) {
      archive_entry* entry = nullptr;
      auto outcome = archive_read_next_header(in.get(), &entry);
      if (outcome == ARCHIVE_EOF)
        break;
      if (outcome != ARCHIVE_OK && outcome != ARCHIVE_WARN)
        return damaged(in.get());
      if (++entries_ > limits_.entries)
        return refuse("holds more than " + std::to_string(limits_.entries) + " entries");
      if (auto problem = take(in.get(), entry))
        return problem;
    }
    if (files_ == 0)
      return refuse("holds no files");
    return {};
  }

private:
  caf::error refuse(const std::string& why) const {
    return caf::make_error(ec::bad_model, archive_.string() + ' ' + why);
  }

  caf::error damaged(::archive* in) const {
    const char* text = archive_error_string(in);
    return refuse("is no readable archive: " + std::string{text ? text : "unknown reason"} +
                  "; allowed: .zip, .tar, .tar.gz and .tgz without a password");
  }

  /// Unpacks the entry that the reader stands at.
  caf::error take(::archive* in, archive_entry* entry) {
    const char* raw = archive_entry_pathname_utf8(entry);
    if (raw == nullptr) // bytes that are no UTF-8 are taken as they are
      raw = archive_entry_pathname(entry);
    if (raw == nullptr)
      return refuse("holds an entry whose name is not readable");
    const std::string name = raw;
    auto place = inside(name);
    if (!place)
      return refuse("holds \"" + name + "\", which would be outside of its folder");
    if (left_out(*place))
      return {};
    if (archive_entry_hardlink(entry) != nullptr || archive_entry_symlink(entry) != nullptr)
      return refuse("holds the link \"" + name + "\"; pack the files themselves");
    const auto type = archive_entry_filetype(entry);
    const auto target = into_ / *place;
    std::error_code code;
    if (type == AE_IFDIR) {
      fs::create_directories(target, code);
      return code ? refuse("cannot be unpacked to " + target.string() + ": " + code.message())
                  : caf::error{};
    }
    if (type != AE_IFREG)
      return refuse("holds \"" + name + "\", which is neither a file nor a folder");
    if (archive_entry_is_encrypted(entry) != 0)
      return refuse("is protected by a password, which is not supported");
    if (archive_entry_size_is_set(entry) != 0 &&
        static_cast<uint64_t>(archive_entry_size(entry)) > most_bytes_ - written_)
      return too_large();
    fs::create_directories(target.parent_path(), code);
    if (code)
      return refuse("cannot be unpacked to " + target.string() + ": " + code.message());
    ++files_;
    return copy(in, name, target);
  }

  caf::error copy(::archive* in, const std::string& name, const fs::path& target) {
    output_file out{target};
    if (!out.is_open())
      return errno == EEXIST
                 ? refuse("holds \"" + name + "\" twice")
                 : refuse("cannot be unpacked to " + target.string() + ": " + std::strerror(errno));
    while (true) {
      const void* bytes = nullptr;
      size_t size = 0;
      la_int64_t offset = 0;
      auto outcome = archive_read_data_block(in, &bytes, &size, &offset);
      if (outcome == ARCHIVE_EOF)
        return {};
      if (outcome != ARCHIVE_OK)
        return damaged(in);
      if (stop_.stop_requested())
        return caf::make_error(ec::cancelled, "stopped while unpacking " + archive_.string());
      // A sparse entry may skip ahead: what counts is how long the file gets.
      auto end = static_cast<uint64_t>(offset) + size;
      if (offset < 0 || end > most_bytes_ || written_ + size > most_bytes_)
        return too_large();
      if (!out.write(static_cast<const char*>(bytes), size, offset))
        return caf::make_error(ec::out_of_memory, "cannot write " + target.string() + ": " +
                                                      std::strerror(errno) +
                                                      "; make room, or name "
                                                      "another folder with download_dir");
      written_ += size;
      if (progress_)
        progress_(static_cast<uint64_t>(archive_filter_bytes(in, -1)), packed_bytes_,
                  archive_.filename().string());
    }
  }

  caf::error too_large() const {
    return refuse("would unpack to more than " + std::to_string(most_bytes_ >> 20) +
                  " MiB, which is too much for an archive of its size; unpack it by hand if it is "
                  "what it should be");
  }

  /// The relative path that `name` stands for; nothing when it leads outside.
  static std::optional<fs::path> inside(const std::string& name) {
    if (name.empty() || name.front() == '/' || name.find('\\') != std::string::npos)
      return std::nullopt;
    fs::path out;
    for (const auto& part : fs::path{name}) {
      if (part == "..")
        return std::nullopt;
      if (!part.empty() && part != ".")
        out /= part;
    }
    return out;
  }

  static bool left_out(const fs::path& place) {
    return place.empty() || *place.begin() == "__MACOSX" ||
           place.filename().string().starts_with("._");
  }

  fs::path archive_;
  fs::path into_;
  archive_limits limits_;
  const fetch_progress& progress_;
  std::stop_token stop_;
  uint64_t packed_bytes_ = 0;
  uint64_t most_bytes_ = 0;
  uint64_t written_ = 0;
  uint64_t entries_ = 0;
  uint64_t files_ = 0;
};

/// A name for the unpacked content that changes when the archive does.
caf::expected<std::string> key_of(const fs::path& archive) {
  struct stat about {};
  std::error_code code; // the path as given does as well
  auto whole = fs::absolute(archive, code).lexically_normal();
  if (::stat(archive.c_str(), &about) != 0)
    return caf::make_error(ec::model_not_found,
                           archive.string() + " cannot be read: " + std::strerror(errno));
  auto identity = whole.string() + ':' + std::to_string(about.st_size) + ':' +
                  std::to_string(about.st_mtim.tv_sec) + '.' +
                  std::to_string(about.st_mtim.tv_nsec);
  char digest[17];
  std::snprintf(digest, sizeof(digest), "%016zx", std::hash<std::string>{}(identity));
  auto name = archive.filename().string();
  name.resize(name.size() - config::archive_extension(name).size());
  return name + '-' + digest;
}

} // namespace

bool is_archive_name(std::string_view name) {
  return !config::archive_extension(name).empty();
}

caf::error unpack_archive(const fs::path& archive, const fs::path& into,
                          const archive_limits& limits, const fetch_progress& progress,
                          std::stop_token stop) {
  std::error_code code;
  fs::create_directories(into.parent_path(), code);
  if (!fs::create_directory(into, code))
    return caf::make_error(ec::bad_model, "cannot make the folder " + into.string() + ": " +
                                              (code ? code.message() : "it is there already") +
                                              "; download_dir names another place");
  auto problem = unpacking{archive, into, limits, progress, std::move(stop)}.run();
  if (problem)
    fs::remove_all(into, code);
  return problem;
}

caf::expected<fs::path> unpacked(const fs::path& archive, const fs::path& folder,
                                 const fetch_progress& progress, std::stop_token stop) {
  auto key = key_of(archive);
  if (!key)
    return std::move(key.error());
  const auto result = folder / *key;
  std::error_code code; // what cannot be looked at is unpacked, which says why it cannot
  if (fs::is_directory(result, code))
    return result;
  auto lock = file_lock::take(folder / (*key + ".lock"), stop);
  if (!lock)
    return std::move(lock.error());
  if (fs::is_directory(result, code)) // another process has done it meanwhile
    return result;
  const auto aside = folder / (*key + ".partial");
  fs::remove_all(aside, code); // of a process that was killed
  if (auto problem = unpack_archive(archive, aside, {}, progress, std::move(stop)))
    return problem;
  fs::rename(aside, result, code);
  if (code)
    return caf::make_error(ec::bad_model, "cannot make " + result.string() + ": " + code.message());
  return result;
}

} // namespace troupe::models
