#pragma once

#include <filesystem>
#include <stop_token>

#include "troupe/config/error.hpp"

namespace troupe::models {

/// Holds the lock on a file, so that processes (and threads) that fetch the same thing take turns.
/// The file stays. Movable, not copyable.
class file_lock {
public:
  /// Waits until the lock is free. Errors: ec::bad_model (the file cannot be made), cancelled.
  static caf::expected<file_lock> take(const std::filesystem::path& file, std::stop_token stop);

  file_lock(file_lock&& other) noexcept;
  file_lock& operator=(file_lock&& other) noexcept;
  ~file_lock();

private:
  explicit file_lock(int descriptor) : descriptor_{descriptor} {}
  int descriptor_;
};

} // namespace troupe::models
