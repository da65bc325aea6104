#include "troupe/actors/stop_matcher.hpp"

#include <algorithm>

namespace troupe {

stop_matcher::stop_matcher(const std::vector<std::string>& stops) {
  nodes_.emplace_back();
  for (const auto& stop : stops)
    insert(stop);
  link();
}

uint32_t stop_matcher::child_of(uint32_t parent, char byte) const {
  auto child = nodes_[parent].child;
  while (child != 0 && nodes_[child].byte != byte)
    child = nodes_[child].sibling;
  return child;
}

void stop_matcher::insert(std::string_view stop) {
  if (stop.empty())
    return;
  uint32_t at = 0;
  for (auto byte : stop) {
    auto next = child_of(at, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      node fresh;
      fresh.byte = byte;
      fresh.depth = nodes_[at].depth + 1;
      fresh.sibling = nodes_[at].child;
      nodes_.push_back(fresh);
      nodes_[at].child = next;
    }
    at = next;
  }
  nodes_[at].match = nodes_[at].depth;
}

void stop_matcher::link() {
  // Breadth first, so that a node's shorter suffixes are linked before it.
  std::vector<uint32_t> queue{0};
  for (size_t i = 0; i < queue.size(); ++i) {
    auto parent = queue[i];
    for (auto child = nodes_[parent].child; child != 0; child = nodes_[child].sibling) {
      queue.push_back(child);
      if (parent == 0)
        continue;
      auto suffix = nodes_[parent].fail;
      auto next = child_of(suffix, nodes_[child].byte);
      while (next == 0 && suffix != 0) {
        suffix = nodes_[suffix].fail;
        next = child_of(suffix, nodes_[child].byte);
      }
      nodes_[child].fail = next;
      // The string that ends here itself is the longest, hence began first.
      if (nodes_[child].match == 0)
        nodes_[child].match = nodes_[next].match;
    }
  }
}

std::optional<stop_matcher::match> stop_matcher::advance(cursor& at, std::string_view piece) const {
  if (empty())
    return std::nullopt;
  for (auto byte : piece) {
    ++at.seen;
    auto next = child_of(at.node, byte);
    while (next == 0 && at.node != 0) {
      at.node = nodes_[at.node].fail;
      next = child_of(at.node, byte);
    }
    at.node = next;
    if (auto length = nodes_[next].match; length != 0)
      return match{at.seen - length, at.seen};
  }
  return std::nullopt;
}

} // namespace troupe
