#include "troupe/actors/scheduling/block_ledger.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace troupe::scheduling {

namespace {

uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 29);
}

uint32_t index_of(block_id b) {
  return static_cast<uint32_t>(b);
}

} // namespace

block_ledger::block_ledger(uint32_t blocks, uint32_t block_tokens)
    : total_(blocks), block_tokens_(std::max(block_tokens, 1u)) {}

std::optional<block_id> block_ledger::allocate() {
  uint32_t i = nobody;
  if (!returned_.empty()) {
    i = returned_.back();
    returned_.pop_back();
  } else if (blocks_.size() < total_) {
    i = static_cast<uint32_t>(blocks_.size());
    blocks_.emplace_back();
  } else if (oldest_ != nobody) {
    i = oldest_;
    unlink(i);
    unpublish(i);
  } else {
    return std::nullopt;
  }
  blocks_[i].references = 1;
  ++used_;
  return block_id{i};
}

void block_ledger::share(block_id which) {
  retain(index_of(which));
}

void block_ledger::release(block_id which) {
  auto i = index_of(which);
  auto& b = blocks_[i];
  if (b.references == 2)
    --shared_;
  if (--b.references > 0)
    return;
  --used_;
  if (b.content != content_id::none)
    link_newest(i);
  else
    returned_.push_back(i);
}

void block_ledger::release_all(std::vector<block_id>& table) {
  for (auto i = table.rbegin(); i != table.rend(); ++i)
    release(*i);
  table.clear();
}

block_ledger::match_result block_ledger::match(std::span<const int32_t> tokens, uint32_t most,
                                               const prefix_scope& scope,
                                               std::vector<block_id>& table) {
  match_result result;
  while (result.blocks < most && tokens.size() >= block_tokens_) {
    auto head = tokens.first(block_tokens_);
    auto i = find(hash_of(result.last, head, scope), result.last, head, scope);
    if (i == nobody)
      break;
    retain(i);
    table.push_back(block_id{i});
    result.last = blocks_[i].content;
    ++result.blocks;
    tokens = tokens.subspan(block_tokens_);
  }
  return result;
}

content_id block_ledger::publish(content_id before, block_id which, std::span<const int32_t> tokens,
                                 const prefix_scope& scope) {
  auto hash = hash_of(before, tokens, scope);
  if (auto known = find(hash, before, tokens, scope); known != nobody)
    return blocks_[known].content;
  auto i = index_of(which);
  auto& b = blocks_[i];
  if (b.content != content_id::none)
    return b.content;
  b.content = content_id{++contents_};
  b.before = before;
  b.hash = hash;
  b.tokens.assign(tokens.begin(), tokens.end());
  if (before == content_id::none) {
    b.salt = scope.salt;
    b.rope_base = scope.rope_base;
  }
  auto [place, fresh] = index_.try_emplace(hash, i);
  b.next_in_bucket = fresh ? nobody : std::exchange(place->second, i);
  return b.content;
}

void block_ledger::forget_contents() {
  while (oldest_ != nobody) {
    auto i = oldest_;
    unlink(i);
    unpublish(i);
    returned_.push_back(i);
  }
}

uint64_t block_ledger::hash_of(content_id before, std::span<const int32_t> tokens,
                               const prefix_scope& scope) const {
  auto h = mix(0x51ed270b9f6a1e35u, static_cast<uint64_t>(before));
  if (before == content_id::none) {
    h = mix(h, std::hash<std::string_view>{}(scope.salt));
    h = mix(h, std::bit_cast<uint64_t>(scope.rope_base));
  }
  for (auto t : tokens)
    h = mix(h, static_cast<uint32_t>(t));
  return h;
}

uint32_t block_ledger::find(uint64_t hash, content_id before, std::span<const int32_t> tokens,
                            const prefix_scope& scope) const {
  auto bucket = index_.find(hash);
  auto i = bucket == index_.end() ? nobody : bucket->second;
  for (; i != nobody; i = blocks_[i].next_in_bucket) {
    const auto& b = blocks_[i];
    if (b.before == before &&
        std::equal(tokens.begin(), tokens.end(), b.tokens.begin(), b.tokens.end()) &&
        (before != content_id::none || (b.salt == scope.salt && b.rope_base == scope.rope_base)))
      return i;
  }
  return nobody;
}

void block_ledger::retain(uint32_t i) {
  auto& b = blocks_[i];
  if (b.references == 0) {
    unlink(i);
    ++used_;
  } else if (b.references == 1) {
    ++shared_;
  }
  ++b.references;
}

void block_ledger::unpublish(uint32_t i) {
  auto& b = blocks_[i];
  auto bucket = index_.find(b.hash);
  if (bucket->second == i) {
    if (b.next_in_bucket == nobody)
      index_.erase(bucket);
    else
      bucket->second = b.next_in_bucket;
  } else {
    auto j = bucket->second;
    while (blocks_[j].next_in_bucket != i)
      j = blocks_[j].next_in_bucket;
    blocks_[j].next_in_bucket = b.next_in_bucket;
  }
  b.next_in_bucket = nobody;
  b.content = content_id::none;
  b.before = content_id::none;
  b.salt.clear();
  b.rope_base = 0;
}

void block_ledger::link_newest(uint32_t i) {
  auto& b = blocks_[i];
  b.older = newest_;
  b.newer = nobody;
  (newest_ == nobody ? oldest_ : blocks_[newest_].newer) = i;
  newest_ = i;
  ++cached_;
}

void block_ledger::unlink(uint32_t i) {
  auto& b = blocks_[i];
  (b.older == nobody ? oldest_ : blocks_[b.older].newer) = b.newer;
  (b.newer == nobody ? newest_ : blocks_[b.newer].older) = b.older;
  b.older = b.newer = nobody;
  --cached_;
}

std::string block_ledger::audit() const {
  uint32_t used = 0, shared = 0, idle = 0, published = 0, listed = 0, indexed = 0;
  for (const auto& b : blocks_) {
    used += b.references > 0;
    shared += b.references > 1;
    idle += b.references == 0 && b.content != content_id::none;
    published += b.content != content_id::none;
  }
  for (auto i = oldest_; i != nobody; i = blocks_[i].newer) {
    if (blocks_[i].references != 0)
      return "a referenced block is listed as cached";
    ++listed;
  }
  for (const auto& [hash, first] : index_)
    for (auto i = first; i != nobody; i = blocks_[i].next_in_bucket) {
      if (blocks_[i].hash != hash || blocks_[i].content == content_id::none)
        return "the index names a block with another content";
      ++indexed;
    }
  for (auto i : returned_)
    if (blocks_[i].references != 0 || blocks_[i].content != content_id::none)
      return "a returned block is in use";
  if (used != used_ || shared != shared_ || idle != cached_ || listed != cached_)
    return "the counts contradict the blocks";
  if (published != indexed)
    return "the index misses a published block";
  if (used + idle + returned_.size() != blocks_.size())
    return "a block is lost";
  return {};
}

} // namespace troupe::scheduling
