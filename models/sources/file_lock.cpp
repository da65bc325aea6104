#include "troupe/models/sources/file_lock.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace troupe::models {

caf::expected<file_lock> file_lock::take(const std::filesystem::path& file, std::stop_token stop) {
  using namespace std::chrono_literals;
  std::error_code code; // a folder that cannot be made shows when the file is opened
  std::filesystem::create_directories(file.parent_path(), code);
  int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0)
    return caf::make_error(ec::bad_model, "cannot make " + file.string() + ": " +
                                              std::strerror(errno) +
                                              "; name a folder that can be written to");
  file_lock result{descriptor};
  while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return caf::make_error(ec::bad_model,
                             "cannot lock " + file.string() + ": " + std::strerror(errno));
    if (stop.stop_requested())
      return caf::make_error(
          ec::cancelled, "stopped while waiting for another process that holds " + file.string());
    std::this_thread::sleep_for(50ms);
  }
  return result;
}

file_lock::file_lock(file_lock&& other) noexcept
    : descriptor_{std::exchange(other.descriptor_, -1)} {}

file_lock& file_lock::operator=(file_lock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

file_lock::~file_lock() {
  if (descriptor_ >= 0)
    ::close(descriptor_);
}

} // namespace troupe::models
