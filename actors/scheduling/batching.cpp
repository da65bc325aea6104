#include "troupe/actors/scheduling/batching.hpp"

#include <algorithm>
#include <string>
#include <tuple>

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
  return std::tuple{a->spec.priority, a->spec.turn, a->id} <
         std::tuple{b->spec.priority, b->spec.turn, b->id};
}

caf::error batching::check_room(const new_sequence& s) const {
  // The last token is never fed back, so it needs no position, unless it is one of several to try.
  const auto positions = uint64_t{s.prompt.size()} - s.generated + s.max_new_tokens -
                         (s.search.kind == search_kind::contrastive ? 0 : 1);
  auto blocks = uint64_t{blocks_for(positions)};
  if (s.search.kind != search_kind::none) {
    if (s.search.lanes > limits_.max_sequences)
      return caf::make_error(ec::invalid_request,
                             std::to_string(s.search.lanes) +
                                 " beams or candidates side by side need as many places " +
                                 "in the batch, which has " +
                                 std::to_string(limits_.max_sequences) +
                                 ": ask for fewer, or raise max_rolling_batch_size");
    const auto common = uint64_t{s.prompt.size()} / limits_.block_tokens;
    blocks = common + s.search.lanes * (blocks - std::min(common, blocks));
  }
  if (blocks > ledger_.total())
    return caf::make_error(ec::invalid_request,
                           "prompt and max_new_tokens need " + std::to_string(positions) +
                               " positions" + (s.search.lanes > 1 ? " for each beam" : "") +
                               ", but the KV cache holds " +
                               std::to_string(uint64_t{ledger_.total()} * limits_.block_tokens) +
                               ": shorten the prompt or ask for fewer tokens");
  return {};
}

/// An entry without a line, under a name of its own.
batching::entry& batching::add_entry() {
  auto fresh = std::make_unique<entry>();
  auto& e = *fresh;
  e.id = sequence_id{++last_sequence_};
  if (places_.empty()) {
    e.index = static_cast<uint32_t>(entries_.size());
    entries_.push_back(std::move(fresh));
  } else {
    e.index = places_.back();
    places_.pop_back();
    entries_[e.index] = std::move(fresh);
  }
  by_id_.emplace(static_cast<uint64_t>(e.id), &e);
  return e;
}

caf::expected<admitted> batching::admit(new_sequence s) {
  if (s.prompt.empty())
    return caf::make_error(ec::invalid_request, std::string{"the prompt has no tokens"});
  if (s.max_new_tokens == 0)
    return caf::make_error(ec::invalid_request, std::string{"max_new_tokens must be at least 1"});
  if (s.generated >= std::min<uint64_t>(s.prompt.size(), s.max_new_tokens))
    return caf::make_error(
        ec::invalid_request,
        std::string{"a sequence that goes on needs a prompt and a token to draw"});
  if (s.wants.candidates > 0)
    return caf::make_error(ec::invalid_request,
                           std::string{"a sequence can't ask for candidates instead of tokens"});
  if (auto err = check_room(s))
    return err;
  const auto free_slots = limits_.max_sequences - std::min(slots_used_, limits_.max_sequences);
  if (waiting_.size() >= uint64_t{limits_.max_waiting} + free_slots)
    return caf::make_error(ec::queue_full, std::to_string(waiting_.size()) +
                                               " sequences are waiting already: try again later");

  auto& e = add_entry();
  e.spec = std::move(s);
  e.spec.wants.sample = true;
  if (e.spec.search.kind != search_kind::none)
    make_group(e);
  e.tokens = std::move(e.spec.prompt);
  e.prompt_length = static_cast<uint32_t>(e.tokens.size()) - e.spec.generated;
  e.tokens.reserve(e.tokens.size() + std::min(e.spec.max_new_tokens, 256u));
  place(e);
  return admitted{e.id, e.index};
}

std::optional<uint32_t> batching::finish(sequence_id id) {
  buried_.clear();
  auto* e = find(id);
  if (!e || e->ended || e->is_side_lane())
    return std::nullopt;
  auto index = e->index;
  end(*e);
  settle(*e);
  return index;
}

void batching::park(sequence_id id) {
  auto* e = find(id);
  if (!e || e->ended || e->parked || e->is_side_lane())
    return;
  e->parked = true;
  ++parked_;
  for_lanes(*e, [this](entry& lane) { place(lane); });
}

void batching::resume(sequence_id id) {
  auto* e = find(id);
  if (!e || e->ended || !e->parked)
    return;
  e->parked = false;
  --parked_;
  for_lanes(*e, [this](entry& lane) { place(lane); });
}

bool batching::never_started(sequence_id id) const {
  const auto* e = find(id);
  return e && !e->ended && !e->had_slot;
}

std::vector<admitted> batching::live() const {
  std::vector<admitted> result;
  for (const auto& e : entries_)
    if (e && !e->ended && !e->is_side_lane())
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
  buried_.clear();
  swaps_out_.clear();
  moved_out_.clear();
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i] || entries_[i]->is_side_lane())
      continue; // its root takes it along
    auto& e = *entries_[i];
    forget_host(e);
    if (e.ended) {
      settle(e);
      continue;
    }
    if (!e.has_slot)
      continue;
    ++counts_.replays;
    dissolve(e);
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
  if (e.ended || e.head().parked || e.preempting || e.retry_group != 0)
    return line::none;
  if (!e.has_slot)
    return line::waiting;
  if (limits_.ahead && e.may_go_ahead())
    return line::ready;
  if (e.decoding)
    return e.in_flight == 0 && e.remaining() > 0 ? line::ready : line::none;
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
  if (e.group && (e.ended || e.preempting))
    return settle_group(*e.group);
  if (e.in_flight == 0) {
    if (e.ended)
      return destroy(e);
    if (e.preempting)
      return preempt(e);
  }
  place(e);
}

void batching::end(entry& e) {
  auto& head = e.head();
  if (std::exchange(head.parked, false))
    --parked_;
  for_lanes(head, [this](entry& lane) {
    lane.ended = true;
    place(lane);
  });
}

void batching::destroy(entry& e) {
  if (e.known)
    dropped_.push_back(e.id);
  if (e.has_slot)
    give_up_blocks(e);
  forget_host(e);
  by_id_.erase(static_cast<uint64_t>(e.id));
  places_.push_back(e.index);
  buried_.push_back(std::move(entries_[e.index]));
}

/// Back to the state before it had a slot; tokens stay.
void batching::give_up_blocks(entry& e) {
  drop_copy(e);
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
  slots_used_ -= e.width;
}

void batching::preempt(entry& e) {
  ++counts_.preemptions;
  auto& head = e.head();
  if (!head.group)
    move_out(head);
  dissolve(head);
  give_up_blocks(head);
  place(head);
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
    slots += e.has_slot ? e.width : 0;
    on_host += e.host.size();
    if (e.has_slot && !e.host.empty())
      return "a sequence with a slot has KV in host memory";
    parked += e.parked;
    for (auto b : e.table)
      ++holders[static_cast<uint32_t>(b)];
    if (e.copy_from)
      holders.try_emplace(static_cast<uint32_t>(*e.copy_from), 0);
    if (e.in_flight != named[&e])
      return "a sequence's steps in flight are miscounted";
    if (!e.has_slot && !e.table.empty())
      return "a sequence without a slot holds blocks";
    if (e.ended && e.in_flight == 0 && (!e.group || e.group->lanes.empty()))
      return "an ended sequence lingers";
    if (e.is_side_lane() && !e.head().has_slot)
      return "a lane outlives its search";
    if (e.in_line != line_of(e))
      return "a sequence stands in the wrong line";
    if (e.done > e.scheduled || e.scheduled > e.tokens.size() + (limits_.ahead ? 1 : 0))
      return "positions are out of order";
    if (e.drawing > e.in_flight || e.drawing > (limits_.ahead ? 2 : 1))
      return "tokens being drawn are miscounted";
    if (e.scheduled > uint64_t{e.table.size() + (e.copy_from ? 1 : 0)} * limits_.block_tokens)
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
