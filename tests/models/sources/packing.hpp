#pragma once

#include <string>
#include <vector>

namespace troupe::test {

/// One entry of an archive, which may be a bad one.
struct packed_entry {
  std::string name;
  std::string content;
  enum class form { file, folder, symlink, hardlink, fifo } as = form::file;
  std::string target = {}; ///< Of a link.
};

/// Writes an archive; the extension of `path` says in which format.
void pack(const std::string& path, const std::vector<packed_entry>& entries);

} // namespace troupe::test
