#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "troupe/models/loading/mapped_file.hpp"

namespace troupe::models {

/// A file in a zip archive. Its bytes lie in the archive as they are only when it is `stored`.
struct zip_entry {
  std::string name;
  bool stored = true; ///< Neither compressed nor encrypted.
  size_t offset = 0;  ///< Of its bytes, from the start of the archive.
  size_t bytes = 0;
};

/// Lists an archive by its central directory, zip64 included, and checks that every entry lies
/// inside of the file. Nothing is unpacked. Layout: PKWARE's APPNOTE, 4.3.
/// Errors: ec::bad_model, one sentence that names the file.
caf::expected<std::vector<zip_entry>> read_zip_directory(const mapped_file& file);

} // namespace troupe::models
