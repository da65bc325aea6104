#include "troupe/models/device_library.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include <dlfcn.h>

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

constexpr const char* library_name = "libtroupe_cuda.so";

/// Folder of the program or library that this code is in.
fs::path own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return {};
  std::error_code ignored;
  return fs::canonical(info.dli_fname, ignored).parent_path();
}

/// Where the library may lie: build/release/bin beside lib, an installed lib folder, or beside us.
std::string find_library() {
  if (const char* path = std::getenv("TROUPE_CUDA_LIBRARY"); path != nullptr && *path != '\0')
    return path;
  std::error_code ignored;
  const auto here = own_folder();
  std::vector<fs::path> places{here / library_name, here / "../lib" / library_name};
  const auto program = fs::canonical("/proc/self/exe", ignored).parent_path();
  if (program != here) {
    places.push_back(program / library_name);
    places.push_back(program / "../lib" / library_name);
  }
  for (const auto& place : places)
    if (fs::exists(place, ignored))
      return fs::weakly_canonical(place, ignored).string();
  return {};
}

/// Set once; an entry lives for ever.
std::atomic<const device_entry*> opened_library{nullptr};

caf::error refuse(std::string why) {
  return caf::make_error(ec::bad_option, std::move(why));
}

} // namespace

caf::expected<const device_entry*> open_device_library(const std::string& path) {
  // Never closed: objects of its classes may outlive every user that we know of.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    return refuse("the CUDA library cannot be loaded: " +
                  std::string{why != nullptr ? why : path.c_str()});
  }
  const auto entry = reinterpret_cast<device_entry_function>(::dlsym(library, device_entry_symbol));
  if (entry == nullptr)
    return refuse("'" + path + "' is not Troupe's CUDA library: it has no " +
                  std::string{device_entry_symbol});
  const auto* table = entry();
  if (table == nullptr || table->abi != device_abi || std::string{table->build} != device_build())
    return refuse("'" + path +
                  "' belongs to another build of Troupe: install program and library "
                  "of one build");
  return table;
}

caf::expected<const device_entry*> open_device_library() {
  static std::mutex mutex;
  std::lock_guard guard{mutex};
  if (const auto* known = opened_library.load())
    return known;
  const auto path = find_library();
  if (path.empty())
    return refuse(std::string{library_name} +
                  " is not beside the program: this build of Troupe serves on the CPU only "
                  "(`make cuda` builds the library; TROUPE_CUDA_LIBRARY names its file)");
  auto table = open_device_library(path);
  if (table)
    opened_library = *table;
  return table;
}

bool may_have_devices() {
  std::error_code ignored;
  const char* path = std::getenv("TROUPE_CUDA_LIBRARY");
  return (path != nullptr && *path != '\0') || fs::exists("/dev/nvidiactl", ignored) ||
         fs::exists("/dev/nvidia0", ignored) || fs::exists("/dev/dxg", ignored);
}

caf::expected<std::vector<device_description>> list_devices() {
  auto library = open_device_library();
  if (!library)
    return library.error();
  auto found = (*library)->devices();
  if (found && found->empty())
    return refuse(
        "there is no GPU: the driver finds none (is one hidden by CUDA_VISIBLE_DEVICES?)");
  return found;
}

caf::expected<std::vector<device_description>> devices_in_use() {
  const auto* library = opened_library.load();
  if (library == nullptr)
    return std::vector<device_description>{};
  return library->devices();
}

std::string describe(const device_description& device) {
  char text[160];
  const auto gib = [](uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
  std::snprintf(text, sizeof(text), "GPU %u: %s, compute capability %u.%u, %.1f of %.1f GiB free",
                device.ordinal, device.name.c_str(), device.major, device.minor,
                gib(device.free_bytes), gib(device.total_bytes));
  return text;
}

} // namespace troupe::models
