#include "troupe/actors/scheduling/batching.hpp"

#include <algorithm>
#include <string>

#include "troupe/actors/scheduling/batching_entry.hpp"

/// Admission and the lives of sequences. What a step runs is in batching_next.cpp, what its end
/// means in batching_apply.cpp.
namespace troupe::scheduling {

batching::batching(const batching_limits& limits)
    : limits_(limits), ledger_(limits.blocks, limits.block_tokens), share_(limits.prefill),
      swap_(limits.swap), last_sequence_(limits.last_sequence) {
  limits_.max_step_tokens = std::max(limits_.max_step_tokens, 1u);
  limits_.max_sequences = std::max(limits_.max_sequences, 1u);
  limits_.block_tokens = ledger_.block_tokens();
}

batching::~batching() = default;
batching::batching(batching&&) noexcept = default;
batching& batching::operator=(batching&&) noexcept = default;

bool batching::by_order::operator()(const entry* a, const entry* b) const {
  return std::pair{a->spec.priority, a->id} < std::pair{b->spec.priority, b->id};
}

caf::expected<admitted> batching::admit(new_sequence s) {
  if (s.prompt.empty())
    return caf::make_error(ec::invalid_request, std::string{"the prompt has no tokens"});
  if (s.max_new_tokens == 0)
    return caf::make_error(ec::invalid_request, std::string{"max_new_tokens must be at least 1"});
  if (s.wants.candidates > 0)
    return caf::make_error(ec::invalid_request,
                           std::string{"a sequence can't ask for candidates instead of tokens"});
  // The last token is never fed back, so it needs no position.
  const auto positions = uint64_t{s.prompt.size()} + s.max_new_tokens - 1;
  if (blocks_for(positions) > ledger_.total())
    return caf::make_error(ec::invalid_request,
                           "prompt and max_new_tokens need " + std::to_string(positions) +
                               " positions, but the KV cache holds " +
                               std::to_string(uint64_t{ledger_.total()} * limits_.block_tokens) +
                               ": shorten the prompt or ask for fewer tokens");
  const auto free_slots = limits_.max_sequences - std::min(slots_used_, limits_.max_sequences);
  if (waiting_.size() >= uint64_t{limits_.max_waiting} + free_slots)
    return caf::make_error(ec::queue_full, std::to_string(waiting_.size()) +
                                               " sequences are waiting already: try again later");

  auto fresh = std::make_unique<entry>();
  auto& e = *fresh;
  e.id = sequence_id{++last_sequence_};
  e.spec = std::move(s);
  e.spec.wants.sample = true;
  e.tokens = std::move(e.spec.prompt);
  e.prompt_length = static_cast<uint32_t>(e.tokens.size());
  e.tokens.reserve(e.tokens.size() + std::min(e.spec.max_new_tokens, 256u));
  if (places_.empty()) {
    e.index = static_cast<uint32_t>(entries_.size());
    entries_.push_back(std::move(fresh));
  } else {
    e.index = places_.back();
    places_.pop_back();
    entries_[e.index] = std::move(fresh);
  }
  by_id_.emplace(static_cast<uint64_t>(e.id), &e);
  place(e);
  return admitted{e.id, e.index};
}

std::optional<uint32_t> batching::finish(sequence_id id) {
  auto* e = find(id);
  if (!e || e->ended)
    return std::nullopt;
  auto index = e->index;
  end(*e);
  settle(*e);
  return index;
}

void batching::park(sequence_id id) {
  auto* e = find(id);
  if (!e || e->ended || e->parked)
    return;
  e->parked = true;
  ++parked_;
  place(*e);
}

void batching::resume(sequence_id id) {
  auto* e = find(id);
  if (!e || e->ended || !e->parked)
    return;
  e->parked = false;
  --parked_;
  place(*e);
}

bool batching::never_started(sequence_id id) const {
  const auto* e = find(id);
  return e && !e->ended && !e->had_slot;
}

std::vector<admitted> batching::live() const {
  std::vector<admitted> result;
  for (const auto& e : entries_)
    if (e && !e->ended)
      result.push_back({e->id, e->index});
  return result;
}

scheduler_load batching::load() const {
  scheduler_load l;
  l.waiting = static_cast<uint32_t>(waiting_.size());
  l.running = slots_used_;
  l.parked = parked_;
  l.blocks_total = ledger_.total();
  l.blocks_used = ledger_.used();
  l.blocks_cached = ledger_.cached();
  l.blocks_shared = ledger_.shared();
  return l;
}

void batching::lose_all() {
  for (auto& f : flights_) {
    for (auto& row : f.rows)
      --row.who->in_flight;
    dropped_.insert(dropped_.end(), f.dropped.begin(), f.dropped.end());
    f.rows.clear();
    f.dropped.clear();
    f.moved_out.clear();
    f.moved_in.clear();
    spare_.push_back(std::move(f));
  }
  flights_.clear();
  retries_.clear();
  swaps_out_.clear();
  moved_out_.clear();
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i])
      continue;
    auto& e = *entries_[i];
    forget_host(e);
    if (e.ended) {
      destroy(e);
      continue;
    }
    if (!e.has_slot)
      continue;
    ++counts_.replays;
    give_up_blocks(e);
    place(e);
  }
  ledger_.forget_contents();
}

batching::entry* batching::find(sequence_id id) const {
  auto i = by_id_.find(static_cast<uint64_t>(id));
  return i == by_id_.end() ? nullptr : i->second;
}

prefix_scope batching::scope_of(const entry& e) const {
  return {e.spec.cache_salt, e.spec.rope_base};
}

uint32_t batching::blocks_for(uint64_t positions) const {
  auto blocks = (positions + limits_.block_tokens - 1) / limits_.block_tokens;
  return static_cast<uint32_t>(std::min<uint64_t>(blocks, UINT32_MAX));
}

batching::line batching::line_of(const entry& e) const {
  if (e.ended || e.parked || e.preempting || e.retry_group != 0)
    return line::none;
  if (!e.has_slot)
    return line::waiting;
  if (limits_.ahead && e.may_go_ahead())
    return line::ready;
  if (e.decoding)
    return e.in_flight == 0 ? line::ready : line::none;
  if (e.unconfirmed && e.in_flight > 0)
    return line::none;
  return e.remaining() > 0 ? line::prompts : line::none;
}

void batching::place(entry& e) {
  auto wanted = line_of(e);
  if (wanted == e.in_line)
    return;
  switch (e.in_line) {
  case line::none:
    break;
  case line::waiting:
    waiting_.erase(&e);
    break;
  case line::prompts:
    prompts_.erase(&e);
    break;
  case line::ready:
    std::erase(ready_, &e);
    break;
  }
  switch (wanted) {
  case line::none:
    break;
  case line::waiting:
    e.refused_at = UINT32_MAX;
    waiting_.insert(&e);
    break;
  case line::prompts:
    prompts_.insert(&e);
    break;
  case line::ready:
    ready_.push_back(&e);
    break;
  }
  e.in_line = wanted;
}

/// Does what had to wait until no step names the sequence any more. `e` may be gone afterwards.
void batching::settle(entry& e) {
  if (e.in_flight == 0) {
    if (e.ended)
      return destroy(e);
    if (e.preempting)
      return preempt(e);
  }
  place(e);
}

void batching::end(entry& e) {
  e.ended = true;
  if (e.parked) {
    e.parked = false;
    --parked_;
  }
  place(e);
}

void batching::destroy(entry& e) {
  if (e.known)
    dropped_.push_back(e.id);
  if (e.has_slot)
    give_up_blocks(e);
  forget_host(e);
  by_id_.erase(static_cast<uint64_t>(e.id));
  places_.push_back(e.index);
  entries_[e.index].reset();
}

/// Back to the state before it had a slot; tokens stay.
void batching::give_up_blocks(entry& e) {
  ledger_.release_all(e.table);
  e.sent = 0;
  e.published = 0;
  e.chain = content_id::none;
  e.scheduled = 0;
  e.done = 0;
  e.introduced = false;
  e.drawing = 0;
  e.decoding = false;
  e.preempting = false;
  e.retry_group = 0;
  e.has_slot = false;
  --slots_used_;
}

void batching::preempt(entry& e) {
  ++counts_.preemptions;
  move_out(e);
  give_up_blocks(e);
  place(e);
}

std::string batching::audit() const {
  if (auto problem = ledger_.audit(); !problem.empty())
    return problem;
  uint32_t slots = 0, parked = 0;
  size_t on_host = 0;
  std::unordered_map<uint32_t, uint32_t> holders;
  std::unordered_map<const entry*, uint32_t> named;
  for (const auto& f : flights_)
    for (const auto& row : f.rows)
      ++named[row.who];
  for (const auto& p : entries_) {
    if (!p)
      continue;
    const auto& e = *p;
    slots += e.has_slot;
    on_host += e.host.size();
    if (e.has_slot && !e.host.empty())
      return "a sequence with a slot has KV in host memory";
    parked += e.parked;
    for (auto b : e.table)
      ++holders[static_cast<uint32_t>(b)];
    if (e.in_flight != named[&e])
      return "a sequence's steps in flight are miscounted";
    if (!e.has_slot && !e.table.empty())
      return "a sequence without a slot holds blocks";
    if (e.ended && e.in_flight == 0)
      return "an ended sequence lingers";
    if (e.in_line != line_of(e))
      return "a sequence stands in the wrong line";
    if (e.done > e.scheduled || e.scheduled > e.tokens.size() + (limits_.ahead ? 1 : 0))
      return "positions are out of order";
    if (e.drawing > e.in_flight || e.drawing > (limits_.ahead ? 2 : 1))
      return "tokens being drawn are miscounted";
    if (e.scheduled > uint64_t{e.table.size()} * limits_.block_tokens)
      return "a position has no block";
  }
  for (const auto& p : entries_) {
    if (!p)
      continue;
    // Only full blocks whose KV is computed may be shared: nobody writes them any more.
    for (size_t i = p->done / limits_.block_tokens; i < p->table.size(); ++i)
      if (holders[static_cast<uint32_t>(p->table[i])] > 1)
        return "an unfinished block is shared";
  }
  if (holders.size() != ledger_.used())
    return "a block is referenced by nobody or unknown to the ledger";
  if (on_host != swap_.used())
    return "host memory is held by nobody";
  if (slots != slots_used_ || slots > limits_.max_sequences)
    return "slots are miscounted";
  if (parked != parked_)
    return "parked sequences are miscounted";
  return {};
}

} // namespace troupe::scheduling
