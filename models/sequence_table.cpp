#include "troupe/models/sequence_table.hpp"

#include <algorithm>

namespace troupe::models {

sequence_table::sequence_table(limits l, const rope_spec* rope, bool samples)
    : limits_(l), samples_(samples) {
  if (rope != nullptr) {
    rope_ = *rope;
    own_frequencies_ = std::make_shared<const std::vector<float>>(inverse_frequencies(*rope));
  }
}

std::shared_ptr<const std::vector<float>> sequence_table::frequencies_for(double base) {
  if (!rope_ || base <= 0 || base == rope_->base)
    return own_frequencies_;
  if (auto known = frequencies_[base].lock())
    return known;
  std::erase_if(frequencies_, [](const auto& entry) { return entry.second.expired(); });
  auto made = std::make_shared<const std::vector<float>>(inverse_frequencies(*rope_, base));
  frequencies_[base] = made;
  return made;
}

void sequence_table::start(const sequence_start& s) {
  const auto [place, is_new] = sequences_.try_emplace(s.sequence);
  auto& state = place->second;
  if (is_new) {
    state.slot = free_slots_.empty() ? slots_++ : free_slots_.back();
    if (!free_slots_.empty())
      free_slots_.pop_back();
  }
  state.blocks.clear();
  state.has_bad_block = false;
  state.draws_at = 0;
  state.drawn = pending_token;
  state.frequencies = frequencies_for(s.rope_base);
  if (samples_)
    state.sampler.emplace(s);
}

namespace {

bool is_pending(const step& s, const step_row& row) {
  return row.token_count == 1 && s.tokens[row.first_token] == pending_token;
}

} // namespace

std::string sequence_table::check(const step& s, const step_row& row, sequence_state& state) const {
  const uint64_t end = uint64_t{row.position} + row.token_count;
  if (row.token_count == 0)
    return "the row feeds no tokens";
  if (uint64_t{row.first_token} + row.token_count > s.tokens.size())
    return "the row's tokens lie outside of the step";
  if (end > limits_.context)
    return "position " + std::to_string(end - 1) + " lies beyond the context of " +
           std::to_string(limits_.context) + " tokens";
  if (end > uint64_t{state.blocks.size()} * limits_.block_tokens)
    return "position " + std::to_string(end - 1) + " has no KV block";
  if (state.has_bad_block)
    return "the sequence was given a KV block beyond the " + std::to_string(limits_.blocks) +
           " that exist";
  if (is_pending(s, row)) {
    if (!limits_.whole)
      return "a token that is still to be drawn can't be fed to one of several stages";
    if (state.draws_at != row.position ||
        (state.drawn == pending_token && !limits_.draws_on_device))
      return "the token at position " + std::to_string(row.position) + " was never drawn";
    return {};
  }
  for (auto token : std::span{s.tokens}.subspan(row.first_token, row.token_count))
    if (token < 0 || static_cast<uint32_t>(token) >= limits_.vocabulary)
      return "token " + std::to_string(token) + " is not in the vocabulary of " +
             std::to_string(limits_.vocabulary);
  return {};
}

void sequence_table::apply(const step& s) {
  for (auto id : s.dropped)
    if (const auto found = sequences_.find(id); found != sequences_.end()) {
      free_slots_.push_back(found->second.slot);
      sequences_.erase(found);
    }
  for (const auto& start_of_one : s.starts)
    start(start_of_one);
  rows_.clear();
  for (const auto& row : s.rows) {
    auto found = sequences_.find(row.sequence);
    if (found == sequences_.end()) {
      rows_.emplace_back().fault = "the sequence was never introduced";
      continue;
    }
    auto& state = found->second;
    if (uint64_t{row.first_block} + row.block_count <= s.blocks.size())
      for (auto block : std::span{s.blocks}.subspan(row.first_block, row.block_count)) {
        state.blocks.push_back(static_cast<uint32_t>(block));
        state.has_bad_block |= state.blocks.back() >= limits_.blocks;
      }
    checked_row checked{&state, check(s, row, state)};
    if (checked.fault.empty()) {
      auto fed = std::span{s.tokens}.subspan(row.first_token, row.token_count);
      if (is_pending(s, row)) {
        checked.pending = state.drawn;
        fed = {&checked.pending, 1};
      }
      if (state.sampler && fed.front() != pending_token)
        state.sampler->feed(row.position, fed);
    }
    state.draws_at = row.wants.sample ? row.position + row.token_count : 0;
    state.drawn = pending_token;
    rows_.push_back(std::move(checked));
  }
}

} // namespace troupe::models
