#include "troupe/http/async_results.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "troupe/http/errors.hpp"

namespace troupe::http {

namespace {

constexpr size_t id_length = 36;

/// Tells the client what to send next time, by both headers of the contract.
void name_next(reply& to, const std::string& token) {
  to.headers.emplace_back("x-next-token", token);
  to.headers.emplace_back("X-Amzn-SageMaker-Custom-Attributes", "x-next-token=" + token);
}

std::optional<size_t> to_count(std::string_view text) {
  size_t out = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return out;
}

reply bad_token(std::string_view token) {
  return lmi_error(400, "BadRequestException", "Invalid x-starting-token: " + std::string{token});
}

} // namespace

void async_result::append(std::string_view bytes) {
  std::string_view end = content_type_ == "text/event-stream"       ? "\n\n"
                         : content_type_ == "application/jsonlines" ? "\n"
                                                                    : "";
  std::lock_guard lock{mutex_};
  while (!bytes.empty()) {
    auto at = end.empty() ? std::string_view::npos : bytes.find(end);
    auto item = at == std::string_view::npos ? bytes : bytes.substr(0, at + end.size());
    items_.emplace_back(item);
    bytes.remove_prefix(item.size());
  }
  visible_ = items_.size() - items_.size() % batch_;
}

void async_result::finish() {
  std::lock_guard lock{mutex_};
  over_ = true;
  visible_ = items_.size();
}

void async_result::fail(std::string reason) {
  std::lock_guard lock{mutex_};
  over_ = failed_ = true;
  failure_ = std::move(reason);
  visible_ = items_.size();
}

reply async_result::poll(const std::string& id, size_t offset, size_t most) const {
  std::lock_guard lock{mutex_};
  if (offset > items_.size())
    return bad_token(id + std::to_string(offset));
  reply out;
  out.inference = true;
  auto count = visible_ - std::min(visible_, offset);
  if (count == 0 && failed_) {
    out = lmi_error(500, "EngineException", failure_);
    out.reason = reason_phrase(failure_);
    return out;
  }
  if (count == 0 && !over_) {
    out.status = 202;
    out.reason = "The model result is not yet available";
    out.content_type.clear();
    name_next(out, offset > 0 ? id + std::to_string(offset) : id);
    return out;
  }
  if (most > 0)
    count = std::min(count, most);
  for (size_t i = offset; i < offset + count; ++i)
    out.body += items_[i];
  out.content_type = content_type_;
  // After a failure one more poll tells it.
  if (offset + count < items_.size() || !over_ || failed_)
    name_next(out, id + std::to_string(offset + count));
  return out;
}

std::shared_ptr<async_result> async_results::add(const std::string& id, std::string content_type,
                                                 std::optional<size_t> owner,
                                                 std::function<void()> cancel) {
  auto made = std::make_shared<async_result>(std::move(content_type), batch_);
  std::list<entry> given_up;
  {
    std::lock_guard lock{mutex_};
    entries_.push_front({id, made, owner, std::move(cancel)});
    by_id_[id] = entries_.begin();
    while (entries_.size() > capacity_) {
      by_id_.erase(entries_.back().id);
      given_up.splice(given_up.begin(), entries_, std::prev(entries_.end()));
    }
  }
  for (auto& old : given_up)
    old.cancel();
  return made;
}

reply async_results::poll(std::string_view token, std::string_view most,
                          std::optional<size_t> owner) {
  auto id = std::string{token.substr(0, id_length)};
  auto offset =
      token.size() > id_length ? to_count(token.substr(id_length)) : std::optional<size_t>{0};
  auto count = most.empty() ? std::optional<size_t>{0} : to_count(most);
  if (!count || (!most.empty() && *count == 0))
    return lmi_error(400, "BadRequestException", "x-max-items must be an integer above 0");
  std::shared_ptr<async_result> found;
  {
    std::lock_guard lock{mutex_};
    if (auto at = by_id_.find(id); at != by_id_.end() && at->second->owner == owner) {
      entries_.splice(entries_.begin(), entries_, at->second);
      found = at->second->result;
    }
  }
  return found && offset ? found->poll(id, *offset, *count) : bad_token(token);
}

reply submitted_reply(const std::string& id) {
  reply out;
  out.content_type.clear();
  out.inference = true;
  name_next(out, id);
  return out;
}

} // namespace troupe::http
