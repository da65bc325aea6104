#pragma once

#include "troupe/models/sources/model_source.hpp"

namespace troupe::models {

/// The archive at an http: or https: URL, downloaded below `options.unpack_folder` unless it is
/// there already in the version (ETag, size) that the server has. Errors: as `fetch_model`.
caf::expected<std::filesystem::path> fetch_archive(const std::string& url,
                                                   const source_options& options,
                                                   const fetch_progress& progress,
                                                   std::stop_token stop);

} // namespace troupe::models
