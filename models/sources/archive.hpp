#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "troupe/models/sources/model_source.hpp"

namespace troupe::models {

/// What an archive may unpack to.
struct archive_limits {
  uint64_t bytes = uint64_t{1} << 40; ///< Of all files together.
  uint64_t entries = 100'000;
  /// Of all files together, as a multiple of the archive's own size (at least 64 MiB are granted):
  /// weights hardly compress, so more is a bomb.
  uint64_t expansion = 200;
};

/// Whether the name ends as those of archives do.
bool is_archive_name(std::string_view name);

/// Unpacks `archive` into the folder `into`, which is made and must not be there yet. Files and
/// folders only, and nothing outside of `into`; what macOS adds (__MACOSX, ._*) is left out.
/// On an error `into` is gone again.
/// Errors: ec::bad_model (no archive, damaged, an absolute path or one with "..", a link or device,
/// one file twice, over the limits), out_of_memory (the disk is full), cancelled.
caf::error unpack_archive(const std::filesystem::path& archive, const std::filesystem::path& into,
                          const archive_limits& limits, const fetch_progress& progress,
                          std::stop_token stop);

/// The folder with the content of `archive` below `folder`; unpacked unless an earlier call did
/// so, which path, size and time of the last change tell. Two processes may do so at once.
/// Errors: as `unpack_archive`, and ec::bad_model when `folder` cannot be written to.
caf::expected<std::filesystem::path> unpacked(const std::filesystem::path& archive,
                                              const std::filesystem::path& folder,
                                              const fetch_progress& progress, std::stop_token stop);

} // namespace troupe::models
