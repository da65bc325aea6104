#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "troupe/models/sources/model_source.hpp"

namespace troupe::models {

/// The snapshot of a model of the hub, in the layout that the `huggingface_hub` package keeps: what
/// either of the two has downloaded, the other finds.
///
///     models--ORG--NAME/refs/main             the commit that a branch or tag stood for
///     models--ORG--NAME/blobs/ETAG            contents, named by their checksum
///     models--ORG--NAME/snapshots/COMMIT/...  links to them, by file name
///
/// Downloads what a server needs (safetensors, configuration, tokenizer, chat template) and checks
/// it against the checksums. Where the hub does not answer, a snapshot that has everything does.
/// Errors: as `fetch_model`.
caf::expected<std::filesystem::path> fetch_from_hub(const std::string& id,
                                                    const source_options& options,
                                                    const fetch_progress& progress,
                                                    std::stop_token stop);

/// The snapshot that the cache holds for a revision (empty: main), if it has what a server needs.
/// Empty when not.
std::filesystem::path cached_snapshot(const std::string& id, const std::string& revision,
                                      const std::filesystem::path& hub_cache);

} // namespace troupe::models
