#include "troupe/actors/scheduling/call_batches.hpp"

#include <algorithm>
#include <utility>

namespace troupe::scheduling {

call_batches::call_batches(uint32_t size, std::chrono::milliseconds delay)
    : size_(std::max(size, 1u)), delay_(delay) {}

void call_batches::arrive(uint64_t request, const std::string& name, time_point now) {
  auto same_call = [&](const auto& known) { return known.second == name; };
  if (std::any_of(running_.begin(), running_.end(), same_call)) {
    running_.emplace(request, name);
    late_.push_back(request);
    return;
  }
  auto place = std::find_if(waiting_.begin(), waiting_.end(),
                            [&](const call& known) { return known.name == name; });
  if (place == waiting_.end()) {
    waiting_.push_back({name, now, {}});
    place = waiting_.end() - 1;
  }
  place->requests.push_back(request);
}

void call_batches::leave(uint64_t request) {
  if (running_.erase(request) > 0) {
    std::erase(late_, request);
    return;
  }
  for (auto& one : waiting_)
    std::erase(one.requests, request);
  std::erase_if(waiting_, [](const call& one) { return one.requests.empty(); });
}

std::vector<uint64_t> call_batches::start(time_point now) {
  auto begun = std::exchange(late_, {});
  begun_ = 0;
  if (!running_.empty() || waiting_.empty())
    return begun;
  if (waiting_.size() < size_ && now < waiting_.front().since + delay_)
    return begun;
  for (; begun_ < size_ && !waiting_.empty(); ++begun_) {
    for (auto request : waiting_.front().requests) {
      running_.emplace(request, waiting_.front().name);
      begun.push_back(request);
    }
    waiting_.pop_front();
  }
  return begun;
}

bool call_batches::knows(const std::string& name) const {
  return std::any_of(running_.begin(), running_.end(),
                     [&](const auto& known) { return known.second == name; }) ||
         std::any_of(waiting_.begin(), waiting_.end(),
                     [&](const call& known) { return known.name == name; });
}

std::optional<call_batches::time_point> call_batches::due() const {
  if (!running_.empty() || waiting_.empty())
    return std::nullopt;
  return waiting_.front().since + delay_;
}

} // namespace troupe::scheduling
