#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <stop_token>
#include <string>

#include "troupe/config/error.hpp"

/// HTTP and HTTPS as downloads need them, over libcurl. Blocking; any thread.
namespace troupe::models {

/// What an answer's header said.
struct transfer_answer {
  int status = 0;
  std::map<std::string, std::string, std::less<>> headers; ///< Names in small letters.
  std::string body;                                        ///< Of `http_get` and `http_head`.

  /// Empty when there is no such header.
  const std::string& header(std::string_view name) const;
};

/// Who asks. A token is sent to the host of the URL and to no host that it redirects to.
struct transfer_identity {
  std::string token; ///< Empty: none.
};

/// The text at `url`, at most 64 MiB, redirects followed. Any status is an answer.
/// Errors: ec::unreachable (no answer), bad_model (longer than that), cancelled.
caf::expected<transfer_answer> http_get(const std::string& url, const transfer_identity& who,
                                        std::stop_token stop);

/// What `url` says of itself, without following a redirect to another host.
/// Errors: as `http_get`.
caf::expected<transfer_answer> http_head(const std::string& url, const transfer_identity& who,
                                         std::stop_token stop);

/// Bytes that are there now.
using bytes_done = std::function<void(uint64_t bytes)>;

/// Downloads `url` into `file`, going on behind what is there already; asks again, behind what has
/// come, when a connection ends early, as long as each attempt brings something or fewer than five
/// in a row have not.
/// @param size Bytes that the whole has; 0: not known.
/// Errors: ec::unreachable (and what has come stays), bad_model (another status than 200 and 206, a
/// body of another size), unauthorized (401, 403), out_of_memory (the disk is full), cancelled.
caf::error http_download(const std::string& url, const std::filesystem::path& file, uint64_t size,
                         const transfer_identity& who, const bytes_done& progress,
                         std::stop_token stop);

} // namespace troupe::models
