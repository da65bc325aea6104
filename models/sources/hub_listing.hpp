#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/config/error.hpp"

namespace troupe::models {

/// A file of a repository of the hub.
struct hub_file {
  std::string path;  ///< Relative, with slashes; checked to stay inside.
  std::string etag;  ///< Its checksum, the blob's name in the cache; empty: to be asked for.
  uint64_t size = 0; ///< 0 with an empty etag: to be asked for.
};

/// What the hub says of a repository at one commit.
struct hub_listing {
  std::string commit; ///< 40 hexadecimal digits.
  std::vector<hub_file> files;
};

/// Reads the hub's answer to /api/models/ID/revision/REV. Errors: ec::bad_model: no such JSON, a
/// commit that is none, a path that leads out of the repository.
caf::expected<hub_listing> parse_listing(const std::string& json);

/// The files out of a listing that a server needs: configuration, tokenizer and chat template, and
/// the weights as safetensors (as one file where the repository holds them both ways).
/// Errors: ec::unsupported_model when there are no such weights.
caf::expected<std::vector<hub_file>> wanted_files(const hub_listing& listing,
                                                  const std::string& id);

/// Whether `text` can name a blob: letters, digits, '-' and '_', not too long.
bool is_blob_name(std::string_view text);

/// Whether `text` names a commit: 40 hexadecimal digits.
bool is_commit(std::string_view text);

} // namespace troupe::models
