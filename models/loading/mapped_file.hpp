#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "troupe/config/error.hpp"

namespace troupe::models {

/// A file mapped read-only. Reading past what is left of a file that somebody truncates while it is
/// mapped raises SIGBUS, which would kill the process: a handler, installed with the first mapping,
/// puts zeros in place of the lost page and remembers it, so the reader goes on and finds out
/// through `intact()`. Faults outside of our mappings go to the handler that was there before.
/// Threading: reading from any thread; the object itself belongs to one.
class mapped_file {
public:
  /// Errors: ec::bad_model: cannot be opened or mapped, or is no regular file.
  static caf::expected<std::shared_ptr<mapped_file>> open(const std::string& path);

  ~mapped_file();
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;

  const std::byte* data() const { return data_; } ///< Null when the file is empty.
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

  /// False once the file has become shorter: what was read may hold zeros.
  bool intact() const;

  /// Tells the kernel that [offset, offset + size) is about to be read.
  void prefetch(size_t offset, size_t size) const;
  /// Gives the pages of [offset, offset + size) back; reading them again costs a page fault.
  void release(size_t offset, size_t size) const;

private:
  mapped_file(std::string path, const std::byte* data, size_t size, int file, int guard)
      : path_(std::move(path)), data_(data), size_(size), file_(file), guard_(guard) {}

  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int file_ = -1;  ///< Descriptor, kept to ask for the length.
  int guard_ = -1; ///< Slot in the table that the signal handler reads.
};

} // namespace troupe::models
