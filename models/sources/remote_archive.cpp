#include "troupe/models/sources/remote_archive.hpp"

#include "troupe/models/sources/archive.hpp"
#include "troupe/models/sources/checksum.hpp"
#include "troupe/models/sources/file_lock.hpp"
#include "troupe/models/sources/transfer.hpp"

namespace troupe::models {

namespace fs = std::filesystem;

caf::expected<fs::path> fetch_archive(const std::string& url, const source_options& options,
                                      const fetch_progress& progress, std::stop_token stop) {
  const auto path = url.substr(0, url.find_first_of("?#"));
  const auto name = path.substr(path.rfind('/') + 1);
  if (!is_archive_name(name))
    return caf::make_error(ec::unsupported_model,
                           url + " names no archive (.zip, .tar, .tar.gz, .tgz)");
  auto about = http_head(url, {}, stop);
  if (!about)
    return std::move(about.error());
  // The version is part of the name: a new one is fetched anew, the same one goes on.
  const auto version = url + '\n' + about->header("etag") + '\n' + about->header("last-modified") +
                       '\n' + about->header("content-length");
  constexpr size_t digits = 16;
  const auto folder = options.unpack_folder / "downloads" / sha256_of(version).substr(0, digits);
  const auto result = folder / name;
  std::error_code code; // what cannot be looked at is fetched, which says why it cannot
  if (fs::exists(result, code))
    return result;
  auto lock = file_lock::take(folder / ".lock", stop);
  if (!lock)
    return std::move(lock.error());
  if (fs::exists(result, code)) // another process has fetched it meanwhile
    return result;
  const auto aside = folder / (name + ".incomplete");
  auto report = [&](uint64_t bytes) {
    if (progress)
      progress(bytes, 0, name);
  };
  if (auto problem = http_download(url, aside, 0, {}, report, stop))
    return problem;
  fs::rename(aside, result, code);
  if (code)
    return caf::make_error(ec::bad_model,
                           "cannot write " + result.string() + ": " + code.message());
  return result;
}

} // namespace troupe::models
