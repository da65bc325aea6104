#include <cstdlib>
#include <filesystem>
#include <string>

#include "troupe/models/sources/hub_listing.hpp"

using namespace troupe::models;

/// The hub's answer: whatever paths and checksums are taken, they stay inside of the cache.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto listing = parse_listing(std::string{reinterpret_cast<const char*>(data), size});
  if (!listing)
    return 0;
  for (const auto& file : listing->files) {
    auto place = std::filesystem::path{"/cache/snapshot"} / file.path;
    if (!place.lexically_normal().string().starts_with("/cache/snapshot/"))
      std::abort();
    if (!file.etag.empty() && !is_blob_name(file.etag))
      std::abort();
  }
  return is_commit(listing->commit) ? 0 : (std::abort(), 0);
}
