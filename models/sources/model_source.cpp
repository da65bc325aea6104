#include "troupe/models/sources/model_source.hpp"

#include <algorithm>
#include <optional>

#include "troupe/config/hex.hpp"
#include "troupe/models/sources/archive.hpp"
#include "troupe/models/sources/hub.hpp"
#include "troupe/models/sources/remote_archive.hpp"

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

bool starts_folded(std::string_view text, std::string_view start) {
  auto same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); };
  return text.size() >= start.size() && std::equal(start.begin(), start.end(), text.begin(), same);
}

/// The scheme of a URL ("s3"), empty for paths and ids.
std::string_view scheme_of(std::string_view text) {
  auto end = text.find("://");
  return end == std::string_view::npos ? std::string_view{} : text.substr(0, end);
}

/// The path in a file: URL, which may be file:/x, file:///x or file://localhost/x; nothing for one
/// of another host.
std::optional<std::string> path_of_file_url(std::string_view url) {
  url.remove_prefix(std::string_view{"file:"}.size());
  if (url.starts_with("//")) {
    url.remove_prefix(2);
    auto host = url.substr(0, url.find('/'));
    if (!host.empty() && host != "localhost")
      return std::nullopt;
    url.remove_prefix(host.size());
  }
  std::string out;
  for (size_t i = 0; i < url.size(); ++i) {
    bool escaped = url[i] == '%' && i + 2 < url.size() && config::hex_digit(url[i + 1]) >= 0 &&
                   config::hex_digit(url[i + 2]) >= 0;
    out +=
        escaped
            ? static_cast<char>(config::hex_digit(url[i + 1]) * 16 + config::hex_digit(url[i + 2]))
            : url[i];
    i += escaped ? 2 : 0;
  }
  return out;
}

/// A folder whose only entry is a folder, or an archive, stands for that.
caf::expected<fs::path> entered(fs::path folder, const source_options& options,
                                const fetch_progress& progress, const std::stop_token& stop) {
  constexpr int deepest = 8;
  for (int depth = 0; depth < deepest; ++depth) {
    std::error_code code; // what cannot be read is for the loader to report
    fs::directory_iterator at{folder, code};
    if (code || at == fs::directory_iterator{})
      break;
    const auto only = at->path();
    if (++at != fs::directory_iterator{})
      break;
    if (fs::is_directory(only, code)) {
      folder = only;
    } else if (fs::is_regular_file(only, code) && is_archive_name(only.filename().string())) {
      auto content = unpacked(only, options.unpack_folder, progress, stop);
      if (!content)
        return content;
      folder = std::move(*content);
    } else {
      break;
    }
  }
  return folder;
}

caf::expected<fs::path> fetch_local(const fs::path& path, const source_options& options,
                                    const fetch_progress& progress, const std::stop_token& stop) {
  std::error_code code;
  if (fs::is_directory(path, code))
    return entered(path, options, progress, stop);
  if (!fs::exists(path, code))
    return caf::make_error(ec::model_not_found, "there is no " + path.string() +
                                                    (code ? ": " + code.message() : std::string{}));
  if (!is_archive_name(path.filename().string()))
    return caf::make_error(ec::bad_model, path.string() +
                                              " is neither a folder nor an archive (.zip, .tar, "
                                              ".tar.gz, .tgz)");
  auto content = unpacked(path, options.unpack_folder, progress, stop);
  return content ? entered(std::move(*content), options, progress, stop) : content;
}

} // namespace

bool is_hub_id(std::string_view text) {
  constexpr size_t longest = 96; // the hub's own limit
  auto plain = [](std::string_view part) {
    bool letters = std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    });
    return !part.empty() && letters && part.front() != '-' && part.front() != '.' &&
           part.back() != '-' && part.back() != '.' && part.find("..") == std::string_view::npos &&
           part.find("--") == std::string_view::npos;
  };
  auto slash = text.find('/');
  if (text.size() > longest)
    return false;
  if (slash == std::string_view::npos)
    return plain(text);
  return plain(text.substr(0, slash)) && plain(text.substr(slash + 1));
}

caf::expected<fs::path> fetch_model(const std::string& url_or_id, const source_options& options,
                                    const fetch_progress& progress, std::stop_token stop) {
  if (starts_folded(url_or_id, "file:")) {
    auto path = path_of_file_url(url_or_id);
    if (!path)
      return caf::make_error(ec::model_not_found,
                             url_or_id + " names another host: a file: URL is of this machine");
    return fetch_local(*path, options, progress, stop);
  }
  const auto scheme = scheme_of(url_or_id);
  if (starts_folded(scheme, "http")) {
    auto archive = fetch_archive(url_or_id, options, progress, stop);
    return archive ? fetch_local(*archive, options, progress, stop) : archive;
  }
  if (!scheme.empty())
    return caf::make_error(ec::unsupported_model,
                           url_or_id + ": models are not fetched over " + std::string{scheme} +
                               "://; copy it to a folder, or name an id of the hub");
  std::error_code code;
  if (fs::exists(url_or_id, code) || !is_hub_id(url_or_id))
    return fetch_local(url_or_id, options, progress, stop);
  return fetch_from_hub(url_or_id, options, progress, stop);
}

} // namespace troupe::models
