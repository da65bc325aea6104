#include "troupe/models/sources/transfer.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

namespace troupe::models {

namespace {

using namespace std::chrono_literals;

struct clean_up {
  void operator()(CURL* c) const { curl_easy_cleanup(c); }
};
using handle = std::unique_ptr<CURL, clean_up>;

handle new_handle() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return handle{ready ? curl_easy_init() : nullptr};
}

/// One exchange: what its callbacks write into.
struct exchange {
  transfer_answer answer;
  std::stop_token stop;
  uint64_t most_body = uint64_t{64} << 20;
  /// Takes a piece of the body instead of `answer`; false ends the transfer.
  std::function<bool(const char*, size_t)> take;
  bool too_long = false;
};

size_t on_body(char* bytes, size_t one, size_t n, void* user) {
  auto& x = *static_cast<exchange*>(user);
  auto size = one * n;
  if (x.take)
    return x.take(bytes, size) ? size : 0;
  if (x.answer.body.size() + size > x.most_body) {
    x.too_long = true;
    return 0;
  }
  x.answer.body.append(bytes, size);
  return size;
}

/// A redirect brings a second header, which replaces the first.
size_t on_header(char* bytes, size_t one, size_t n, void* user) {
  auto& x = *static_cast<exchange*>(user);
  std::string_view line{bytes, one * n};
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n'))
    line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {
    x.answer.headers.clear();
    x.answer.body.clear();
    auto space = line.find(' ');
    x.answer.status = space == std::string_view::npos
                          ? 0
                          : static_cast<int>(std::strtol(line.data() + space, nullptr, 10));
  } else if (auto colon = line.find(':'); colon != std::string_view::npos) {
    std::string name{line.substr(0, colon)};
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    auto value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    x.answer.headers[name] = value;
  }
  return one * n;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<exchange*>(user)->stop.stop_requested() ? 1 : 0;
}

void prepare(CURL* c, const std::string& url, const transfer_identity& who, exchange& x) {
  curl_easy_setopt(c, CURLOPT_URL, url.c_str());
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(c, CURLOPT_MAXREDIRS, 8L);
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 10L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 30L);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "troupe");
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &x);
  curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(c, CURLOPT_HEADERDATA, &x);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, &x);
  if (!who.token.empty()) {
    curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, who.token.c_str());
  }
}

caf::error cancelled(const std::string& url) {
  return caf::make_error(ec::cancelled, "stopped while downloading " + url);
}

caf::error no_answer(const std::string& url, CURLcode code) {
  return caf::make_error(ec::unreachable, url + ": " + curl_easy_strerror(code));
}

caf::expected<transfer_answer> ask(const std::string& url, const transfer_identity& who,
                                   std::stop_token stop, bool head) {
  auto c = new_handle();
  if (!c)
    return caf::make_error(ec::internal, std::string{"libcurl cannot be used on this machine"});
  exchange x;
  x.stop = std::move(stop);
  prepare(c.get(), url, who, x);
  if (head) {
    curl_easy_setopt(c.get(), CURLOPT_NOBODY, 1L);
    curl_easy_setopt(c.get(), CURLOPT_FOLLOWLOCATION, 0L);
  }
  auto code = curl_easy_perform(c.get());
  if (x.stop.stop_requested())
    return cancelled(url);
  if (x.too_long)
    return caf::make_error(ec::bad_model, url + " answers with more than 64 MiB");
  if (code != CURLE_OK)
    return no_answer(url, code);
  return std::move(x.answer);
}

/// The file that a download goes to; closed at the end.
class partial_file {
public:
  explicit partial_file(const std::filesystem::path& path)
      : descriptor_{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)} {
    if (descriptor_ >= 0)
      size_ = static_cast<uint64_t>(std::max<off_t>(0, ::lseek(descriptor_, 0, SEEK_END)));
  }
  ~partial_file() {
    if (descriptor_ >= 0)
      ::close(descriptor_);
  }
  partial_file(const partial_file&) = delete;
  partial_file& operator=(const partial_file&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  uint64_t size() const { return size_; }

  bool append(const char* bytes, size_t size) {
    while (size > 0) {
      auto n = ::pwrite(descriptor_, bytes, size, static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return false;
      bytes += n;
      size -= static_cast<size_t>(n);
      size_ += static_cast<uint64_t>(n);
    }
    return true;
  }

  bool begin_anew() {
    size_ = 0;
    return ::ftruncate(descriptor_, 0) == 0;
  }

private:
  int descriptor_;
  uint64_t size_ = 0;
};

/// How one attempt at a download ended.
enum class attempt { complete, again, failed };

/// A download over several attempts.
class download {
public:
  download(const std::string& url, const std::filesystem::path& path, uint64_t size,
           const transfer_identity& who, const bytes_done& progress, std::stop_token stop)
      : url_{url}, path_{path}, file_{path}, size_{size}, who_{who}, progress_{progress},
        stop_{std::move(stop)} {}

  caf::error run() {
    if (!file_.is_open())
      return caf::make_error(ec::bad_model,
                             "cannot write " + path_.string() + ": " + std::strerror(errno));
    if (size_ > 0 && file_.size() > size_ && !file_.begin_anew())
      return disk_problem();
    constexpr int most_in_vain = 5;
    int in_vain = 0;
    while (size_ == 0 || file_.size() < size_) {
      const auto before = file_.size();
      auto outcome = once();
      if (outcome == attempt::failed)
        return error_;
      if (outcome == attempt::complete)
        break;
      in_vain = file_.size() > before ? 0 : in_vain + 1;
      if (in_vain == most_in_vain)
        return error_;
      pause(200ms * (1 << in_vain));
      if (stop_.stop_requested())
        return cancelled(url_);
    }
    if (size_ > 0 && file_.size() != size_)
      return caf::make_error(ec::bad_model, url_ + " has " + std::to_string(file_.size()) +
                                                " bytes where " + std::to_string(size_) +
                                                " were announced");
    return {};
  }

private:
  attempt once() {
    auto c = new_handle();
    if (!c)
      return fail(
          caf::make_error(ec::internal, std::string{"libcurl cannot be used on this machine"}));
    exchange x;
    x.stop = stop_;
    const auto begin = file_.size();
    bool first = true, disk_full = false;
    x.take = [&](const char* bytes, size_t size) {
      if (x.answer.status != 200 && x.answer.status != 206)
        return true; // an error page or the body of a redirect
      if (std::exchange(first, false) && x.answer.status == 200 && begin > 0)
        disk_full = !file_.begin_anew(); // the server knows no ranges
      disk_full = disk_full || !file_.append(bytes, size);
      if (!disk_full && progress_)
        progress_(file_.size());
      return !disk_full;
    };
    prepare(c.get(), url_, who_, x);
    const auto range = std::to_string(begin) + '-';
    if (begin > 0)
      curl_easy_setopt(c.get(), CURLOPT_RANGE, range.c_str());
    auto code = curl_easy_perform(c.get());
    if (stop_.stop_requested())
      return fail(cancelled(url_));
    if (disk_full)
      return fail(disk_problem());
    return judge(code, x.answer.status, begin);
  }

  attempt judge(CURLcode code, int status, uint64_t begin) {
    const auto answer = url_ + " answers with status " + std::to_string(status);
    if (status == 401 || status == 403)
      return fail(caf::make_error(ec::unauthorized, answer + "; HF_TOKEN names the token to use"));
    if (status == 416 && begin > 0) { // what is there is not the beginning of this
      error_ = caf::make_error(ec::bad_model, answer);
      return file_.begin_anew() ? attempt::again : fail(disk_problem());
    }
    if (status == 429 || status >= 500) {
      error_ = caf::make_error(ec::unreachable, answer);
      return attempt::again;
    }
    if (status != 0 && status != 200 && status != 206)
      return fail(caf::make_error(status == 404 ? ec::model_not_found : ec::bad_model, answer));
    if (code == CURLE_OK)
      return attempt::complete;
    error_ = no_answer(url_, code);
    return attempt::again;
  }

  attempt fail(caf::error why) {
    error_ = std::move(why);
    return attempt::failed;
  }

  caf::error disk_problem() const {
    return caf::make_error(ec::out_of_memory, "cannot write " + path_.string() + ": " +
                                                  std::strerror(errno) +
                                                  "; make room, then the download goes on");
  }

  void pause(std::chrono::milliseconds time) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock{mutex};
    wake.wait_for(lock, stop_, time, [] { return false; });
  }

  const std::string& url_;
  const std::filesystem::path& path_;
  partial_file file_;
  uint64_t size_;
  const transfer_identity& who_;
  const bytes_done& progress_;
  std::stop_token stop_;
  caf::error error_;
};

} // namespace

const std::string& transfer_answer::header(std::string_view name) const {
  static const std::string none;
  auto at = headers.find(name);
  return at == headers.end() ? none : at->second;
}

caf::expected<transfer_answer> http_get(const std::string& url, const transfer_identity& who,
                                        std::stop_token stop) {
  return ask(url, who, std::move(stop), false);
}

caf::expected<transfer_answer> http_head(const std::string& url, const transfer_identity& who,
                                         std::stop_token stop) {
  return ask(url, who, std::move(stop), true);
}

caf::error http_download(const std::string& url, const std::filesystem::path& file, uint64_t size,
                         const transfer_identity& who, const bytes_done& progress,
                         std::stop_token stop) {
  return download{url, file, size, who, progress, std::move(stop)}.run();
}

} // namespace troupe::models
