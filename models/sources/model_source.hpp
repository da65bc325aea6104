#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "troupe/config/error.hpp"

/// Where models come from: folders, archives, the Hugging Face hub. Everything here blocks; it is
/// for a thread of its own, and any thread may call it.
namespace troupe::models {

/// What fetching may need to know.
struct source_options {
  std::filesystem::path unpack_folder; ///< Archives are unpacked below it, once each.
  std::filesystem::path hub_cache;     ///< The hub's cache: models--ORG--NAME/ stand in it.
  std::string hub_endpoint = "https://huggingface.co";
  std::string hub_token; ///< Empty: ask without one. Never written anywhere.
  std::string revision;  ///< Branch, tag or commit of the hub; empty: main.
  bool offline = false;  ///< Take what the cache holds, ask nobody.
  /// Told what is worth knowing although nothing failed, in one sentence; may be empty.
  std::function<void(const std::string&)> warn = {};
};

/// How far fetching is: bytes done and of all (0: not known), and of what ("model.safetensors").
/// Called on the caller's thread; must not block.
using fetch_progress =
    std::function<void(uint64_t bytes_done, uint64_t bytes_total, const std::string& what)>;

/// Brings a model onto this machine and says in which folder it is. Takes
///   - a folder or archive (.zip, .tar, .tar.gz, .tgz), as a path or file: URL;
///   - an http: or https: URL of an archive;
///   - an id of the hub ("ORG/NAME"), from its cache or by download, which goes on where an
///     interrupted one ended.
/// A folder that holds nothing but one folder or one archive stands for that.
/// Errors: ec::model_not_found (nothing of that name here or there), bad_model (a damaged or
/// hostile archive, a download that does not match its checksum), unauthorized (the hub wants
/// another token), unreachable (no answer, and nothing in the cache), unsupported_model (s3:, djl:,
/// a repository without safetensors), cancelled.
caf::expected<std::filesystem::path> fetch_model(const std::string& url_or_id,
                                                 const source_options& options,
                                                 const fetch_progress& progress,
                                                 std::stop_token stop);

/// Whether `text` has the form of an id of the hub: NAME or ORG/NAME of letters, digits, '-', '_'
/// and '.'.
bool is_hub_id(std::string_view text);

} // namespace troupe::models
