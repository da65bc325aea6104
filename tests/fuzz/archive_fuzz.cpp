#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "troupe/models/sources/archive.hpp"

namespace fs = std::filesystem;
using namespace troupe::models;

namespace {

/// A folder that only this process writes to, with one for the content in it.
const fs::path& place() {
  static const fs::path made = [] {
    auto path = fs::temp_directory_path() / ("troupe-fuzz-" + std::to_string(::getpid()));
    fs::create_directories(path);
    std::atexit([] { fs::remove_all(place()); });
    return path;
  }();
  return made;
}

} // namespace

/// An archive: whatever it says, only files and folders of the allowed size appear, and nothing
/// beside the folder.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto archive = place() / "a.archive", out = place() / "out";
  std::ofstream{archive, std::ios::binary}.write(reinterpret_cast<const char*>(data),
                                                 static_cast<std::streamsize>(size));
  archive_limits limits;
  limits.bytes = 1 << 20;
  limits.entries = 100;
  const bool refused = static_cast<bool>(unpack_archive(archive, out, limits, {}, {}));
  if (refused == fs::exists(out))
    std::abort();
  uint64_t bytes = 0;
  if (!refused)
    for (const auto& entry : fs::recursive_directory_iterator{out}) {
      if (entry.is_symlink() || !(entry.is_directory() || entry.is_regular_file()))
        std::abort();
      bytes += entry.is_regular_file() ? entry.file_size() : 0;
    }
  auto beside = std::distance(fs::directory_iterator{place()}, fs::directory_iterator{});
  if (bytes > limits.bytes * limits.entries || beside > 2)
    std::abort();
  fs::remove_all(out);
  return 0;
}
