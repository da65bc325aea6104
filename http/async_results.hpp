#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "troupe/http/message.hpp"

/// Answers that are fetched later, piece by piece (contract http.md §4.7).
namespace troupe::http {

/// What a request without a waiting client has produced so far. Any thread.
class async_result {
public:
  /// @param content_type Of the answer.
  /// @param batch Items that become visible together; fewer only at the end.
  async_result(std::string content_type, size_t batch)
      : content_type_(std::move(content_type)), batch_(batch) {}

  /// Adds bytes of the answer. A stream's are cut into its lines or events, each of them an item.
  void append(std::string_view bytes);
  /// Nothing follows.
  void finish();
  /// Nothing follows, because the request failed.
  void fail(std::string reason);

  /// The answer to a poll. @param most Items to give; 0 = all that are there.
  reply poll(const std::string& id, size_t offset, size_t most) const;

private:
  mutable std::mutex mutex_;
  std::string content_type_;
  size_t batch_;
  std::vector<std::string> items_;
  size_t visible_ = 0; ///< Of `items_`.
  bool over_ = false;
  bool failed_ = false;
  std::string failure_;
};

/// The latest results by their ids. The one that was not asked for longest makes room for a new
/// one, and is cancelled if it still runs. Any thread.
class async_results {
public:
  /// @param capacity Results kept at once.
  /// @param batch As for `async_result`.
  async_results(size_t capacity, size_t batch) : capacity_(capacity), batch_(batch) {}

  /// A place for an answer, known by `id` from now on.
  /// @param owner The API key that it belongs to: nobody else can fetch it.
  /// @param cancel Ends its request; called once at most, when the result is given up.
  std::shared_ptr<async_result> add(const std::string& id, std::string content_type,
                                    std::optional<size_t> owner, std::function<void()> cancel);

  /// Answers a poll for `token` (an id, and the number of items that were had already).
  reply poll(std::string_view token, std::string_view most, std::optional<size_t> owner = {});

private:
  struct entry {
    std::string id;
    std::shared_ptr<async_result> result;
    std::optional<size_t> owner;
    std::function<void()> cancel;
  };

  const size_t capacity_;
  const size_t batch_;
  std::mutex mutex_;
  std::list<entry> entries_; ///< The latest used first.
  std::unordered_map<std::string, std::list<entry>::iterator> by_id_;
};

/// The answer to a request whose result is fetched later.
reply submitted_reply(const std::string& id);

} // namespace troupe::http
