#include "troupe/models/sources/hub.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "troupe/models/loading/json_file.hpp"
#include "troupe/models/sources/checksum.hpp"
#include "troupe/models/sources/file_lock.hpp"
#include "troupe/models/sources/hub_listing.hpp"
#include "troupe/models/sources/transfer.hpp"

namespace troupe::models {

namespace {

namespace fs = std::filesystem;

/// "models--ORG--NAME"
std::string folder_name(const std::string& id) {
  std::string out = "models--";
  for (char c : id)
    if (c == '/')
      out += "--";
    else
      out += c;
  return out;
}

/// A revision as part of a URL: refs/pr/1 has slashes.
std::string escaped(std::string_view text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 std::string_view{"-_.~"}.find(c) != std::string_view::npos;
    auto byte = static_cast<unsigned char>(c);
    if (plain)
      out += c;
    else
      out += {'%', digits[byte >> 4], digits[byte & 15]};
  }
  return out;
}

/// A file's path as part of a URL.
std::string escaped_path(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    auto end = std::min(path.find('/'), path.size());
    out += escaped(path.substr(0, end));
    path.remove_prefix(end);
    if (!path.empty()) {
      out += '/';
      path.remove_prefix(1);
    }
  }
  return out;
}

bool is_revision(std::string_view text) {
  constexpr size_t longest = 200;
  fs::path parts{text};
  return !text.empty() && text.size() <= longest && text.front() != '/' &&
         text.find('\0') == std::string_view::npos &&
         std::none_of(parts.begin(), parts.end(), [](const auto& part) { return part == ".."; });
}

std::string without_marks(std::string etag) {
  if (etag.starts_with("W/"))
    etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

bool has_weights(const fs::path& snapshot) {
  std::error_code code; // what cannot be looked at is not there
  for (const auto* name : {"model.safetensors", "adapter_model.safetensors"})
    if (fs::exists(snapshot / name, code))
      return true;
  auto index = json_file::open((snapshot / "model.safetensors.index.json").string());
  if (!index)
    return false;
  auto map = index->string_map("weight_map");
  return map && !map->empty() && std::all_of(map->begin(), map->end(), [&](const auto& entry) {
           return fs::exists(snapshot / entry.second, code);
         });
}

/// One fetch of one model.
class fetching {
public:
  fetching(const std::string& id, const source_options& options, const fetch_progress& progress,
           std::stop_token stop)
      : id_{id}, options_{options}, progress_{progress}, stop_{std::move(stop)},
        revision_{options.revision.empty() ? "main" : options.revision},
        folder_{options.hub_cache / folder_name(id)}, who_{options.hub_token} {}

  caf::expected<fs::path> run() {
    if (!is_revision(revision_))
      return caf::make_error(ec::bad_option, "option.revision: \"" + revision_.substr(0, 80) +
                                                 "\" is no name of a branch, tag or commit");
    const auto cached = cached_snapshot(id_, revision_, options_.hub_cache);
    if (!cached.empty() && (options_.offline || is_commit(revision_)))
      return cached;
    if (options_.offline)
      return caf::make_error(ec::model_not_found,
                             "there is no " + id_ + " here, neither as a folder nor whole in " +
                                 options_.hub_cache.string() +
                                 ", and HF_HUB_OFFLINE forbids to ask the hub for it");
    auto listing = ask();
    if (!listing && code_of(listing.error()) == ec::unreachable && !cached.empty()) {
      if (options_.warn)
        options_.warn(id_ + " is taken from " + cached.string() +
                      ", which may be out of date: " + text_of(listing.error()));
      return cached;
    }
    if (!listing)
      return std::move(listing.error());
    auto files = wanted_files(*listing, id_);
    if (!files)
      return std::move(files.error());
    return download(*listing, std::move(*files));
  }

private:
  caf::expected<hub_listing> ask() const {
    const auto url = options_.hub_endpoint + "/api/models/" + id_ + "/revision/" +
                     escaped(revision_) + "?blobs=true";
    auto answer = http_get(url, who_, stop_);
    if (!answer && code_of(answer.error()) == ec::unreachable)
      return caf::make_error(ec::unreachable,
                             "the hub does not answer for " + id_ +
                                 ", which is no folder here: " + text_of(answer.error()) +
                                 "; check HF_ENDPOINT and the network, or name a folder");
    if (!answer)
      return std::move(answer.error());
    if (answer->status == 200)
      return parse_listing(answer->body);
    return refusal(*answer, url);
  }

  caf::error refusal(const transfer_answer& answer, const std::string& url) const {
    const auto& code = answer.header("x-error-code");
    const auto said = url + " answers with status " + std::to_string(answer.status) +
                      (code.empty() ? "" : " (" + code + ')');
    const bool forbidden = answer.status == 401 || answer.status == 403;
    if (code == "GatedRepo" || (forbidden && !who_.token.empty() && code != "RepoNotFound"))
      return caf::make_error(ec::unauthorized,
                             id_ +
                                 " of the hub is not for everyone: ask for access on its page and "
                                 "set HF_TOKEN to a token that has it; " +
                                 said);
    if (forbidden || answer.status == 404)
      return caf::make_error(ec::model_not_found,
                             "there is no folder " + id_ + " here and no public " + id_ +
                                 " (revision " + revision_ +
                                 ") on the hub; a private one needs HF_TOKEN; " + said);
    return caf::make_error(
        answer.status >= 500 || answer.status == 429 ? ec::unreachable : ec::bad_model, said);
  }

  caf::expected<fs::path> download(const hub_listing& listing, std::vector<hub_file> files) {
    for (auto& file : files) {
      if (file.etag.empty())
        if (auto problem = ask_for_etag(listing.commit, file))
          return problem;
      total_ += file.size;
    }
    const auto snapshot = folder_ / "snapshots" / listing.commit;
    for (const auto& file : files) {
      if (auto problem = fetch_blob(listing.commit, file))
        return problem;
      if (auto problem = link(snapshot, file))
        return problem;
      done_ += file.size;
    }
    if (!is_commit(revision_))
      if (auto problem = write_ref(listing.commit))
        return problem;
    return snapshot;
  }

  std::string url_of(const std::string& commit, const hub_file& file) const {
    return options_.hub_endpoint + '/' + id_ + "/resolve/" + commit + '/' + escaped_path(file.path);
  }

  /// For hubs whose listing names no checksums.
  caf::error ask_for_etag(const std::string& commit, hub_file& file) const {
    const auto url = url_of(commit, file);
    auto answer = http_head(url, who_, stop_);
    if (!answer)
      return std::move(answer.error());
    auto first_of = [&](const char* a, const char* b) {
      return answer->header(a).empty() ? answer->header(b) : answer->header(a);
    };
    file.etag = without_marks(first_of("x-linked-etag", "etag"));
    file.size = std::strtoull(first_of("x-linked-size", "content-length").c_str(), nullptr, 10);
    if (answer->status >= 400 || !is_blob_name(file.etag))
      return caf::make_error(ec::bad_model, url + " answers with status " +
                                                std::to_string(answer->status) +
                                                " and no usable ETag");
    return {};
  }

  caf::error fetch_blob(const std::string& commit, const hub_file& file) {
    std::error_code code; // a folder that cannot be made shows when a file is opened
    const auto blob = folder_ / "blobs" / file.etag;
    if (fs::exists(blob, code))
      return {};
    fs::create_directories(blob.parent_path(), code);
    auto lock = file_lock::take(
        options_.hub_cache / ".locks" / folder_name(id_) / (file.etag + ".lock"), stop_);
    if (!lock)
      return std::move(lock.error());
    if (fs::exists(blob, code)) // another process has fetched it meanwhile
      return {};
    const auto aside = folder_ / "blobs" / (file.etag + ".incomplete");
    const auto url = url_of(commit, file);
    auto report = [&](uint64_t bytes) {
      if (progress_)
        progress_(done_ + bytes, total_, file.path);
    };
    if (auto problem = http_download(url, aside, file.size, who_, report, stop_))
      return problem;
    auto good = has_checksum(aside, file.etag);
    if (!good)
      return std::move(good.error());
    if (!*good) {
      fs::remove(aside, code);
      return caf::make_error(ec::bad_model, url + " does not have the checksum " + file.etag +
                                                " that the hub names; it is deleted, try again");
    }
    fs::rename(aside, blob, code);
    return code ? unwritable(blob, code) : caf::error{};
  }

  /// Makes the snapshot's link to a blob; a relative one, so that the cache can be moved.
  caf::error link(const fs::path& snapshot, const hub_file& file) const {
    const auto place = snapshot / file.path;
    const auto target = (folder_ / "blobs" / file.etag).lexically_relative(place.parent_path());
    std::error_code code;
    if (fs::read_symlink(place, code) == target)
      return {};
    fs::create_directories(place.parent_path(), code);
    fs::remove(place, code);
    fs::create_symlink(target, place, code);
    return code ? unwritable(place, code) : caf::error{};
  }

  caf::error write_ref(const std::string& commit) const {
    const auto place = folder_ / "refs" / revision_;
    std::error_code code;
    fs::create_directories(place.parent_path(), code);
    const auto aside = place.string() + ".partial";
    if (!(std::ofstream{aside} << commit << std::flush))
      return unwritable(aside, std::make_error_code(std::errc::io_error));
    fs::rename(aside, place, code);
    return code ? unwritable(place, code) : caf::error{};
  }

  static caf::error unwritable(const fs::path& place, const std::error_code& code) {
    return caf::make_error(ec::bad_model, "cannot write " + place.string() + ": " + code.message() +
                                              "; HF_HOME names another place for the hub's cache");
  }

  const std::string& id_;
  const source_options& options_;
  const fetch_progress& progress_;
  std::stop_token stop_;
  std::string revision_;
  fs::path folder_;
  transfer_identity who_;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
};

} // namespace

fs::path cached_snapshot(const std::string& id, const std::string& revision,
                         const fs::path& hub_cache) {
  const auto folder = hub_cache / folder_name(id);
  auto commit = revision.empty() ? "main" : revision;
  if (!is_revision(commit))
    return {};
  if (!is_commit(commit)) {
    std::ifstream in{folder / "refs" / commit};
    commit.assign(std::istreambuf_iterator<char>{in}, {});
    commit.erase(commit.find_last_not_of(" \r\n\t") + 1);
  }
  const auto snapshot = folder / "snapshots" / commit;
  std::error_code code; // what cannot be looked at is not there
  bool described = fs::exists(snapshot / "config.json", code) ||
                   fs::exists(snapshot / "adapter_config.json", code);
  return is_commit(commit) && described && has_weights(snapshot) ? snapshot : fs::path{};
}

caf::expected<fs::path> fetch_from_hub(const std::string& id, const source_options& options,
                                       const fetch_progress& progress, std::stop_token stop) {
  return fetching{id, options, progress, std::move(stop)}.run();
}

} // namespace troupe::models
