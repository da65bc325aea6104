#include "troupe/actors/scheduling/host_swap.hpp"

namespace troupe::scheduling {

bool host_swap::pays(uint32_t blocks, uint32_t positions, double token_ns) const {
  if (blocks == 0 || blocks > limits_.host_blocks || !limits_.block_ns)
    return false;
  const auto move = limits_.block_ns();
  return move > 0 && 2.0 * blocks * move < positions * token_ns;
}

std::optional<std::vector<block_id>> host_swap::take(uint32_t count) {
  if (count > limits_.host_blocks - used_)
    return std::nullopt;
  std::vector<block_id> places;
  places.reserve(count);
  while (places.size() < count)
    if (returned_.empty()) {
      places.push_back(block_id{fresh_++});
    } else {
      places.push_back(returned_.back());
      returned_.pop_back();
    }
  used_ += count;
  return places;
}

void host_swap::give_back(std::vector<block_id>& places) {
  used_ -= static_cast<uint32_t>(places.size());
  returned_.insert(returned_.end(), places.begin(), places.end());
  places.clear();
}

} // namespace troupe::scheduling
