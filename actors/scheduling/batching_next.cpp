#include <algorithm>
#include <utility>

#include "troupe/actors/scheduling/batching_entry.hpp"

/// What the next step runs.
namespace troupe::scheduling {

bool batching::next(uint32_t depth, step& s) {
  depth = std::max(depth, 1u);
  buried_.clear();
  s.rows.clear();
  s.tokens.clear();
  s.blocks.clear();
  s.starts.clear();
  s.copies.clear();
  s.swaps_in.clear();
  s.swaps_out.clear();
  s.dropped.clear();
  if (spare_.empty()) {
    building_ = flight{};
  } else {
    building_ = std::move(spare_.back());
    spare_.pop_back();
  }
  if (prompts_.empty() && waiting_.empty())
    burst_issued_ = 0;
  building_.retry = add_retries(s);
  if (!building_.retry) {
    add_decodes(depth, s);
    add_prompts(depth, s);
  }
  if (s.rows.empty()) {
    spare_.push_back(std::exchange(building_, {}));
    return false;
  }
  attach_moves(s);
  building_.dropped.swap(dropped_);
  s.dropped = building_.dropped;
  return true;
}

void batching::launched(step_id id) {
  building_.id = id;
  burst_issued_ += building_.prompt_tokens;
  flights_.push_back(std::exchange(building_, {}));
  if (limits_.ahead)
    for (const auto& row : flights_.back().rows)
      place(*row.who);
}

/// Decoding sequences that wait for a step in flight and stand in no line.
uint32_t batching::flying_decodes() const {
  uint32_t count = 0;
  for (const auto& f : flights_) {
    if (!limits_.ahead) {
      count += f.decode_rows;
      continue;
    }
    for (const auto& row : f.rows)
      count += row.decode && row.who->in_flight == 1 && row.who->in_line != line::ready;
  }
  return count;
}

/// A group whose members have all come to rest becomes a step of its own, so that the culprit can't
/// take anyone else along.
bool batching::add_retries(step& s) {
  for (auto group = retries_.begin(); group != retries_.end();) {
    std::erase_if(group->members, [&](sequence_id id) {
      auto* e = find(id);
      if (!e || e->ended || e->preempting || e->retry_group != group->id)
        return true;
      if (!e->head().parked)
        return false;
      e->retry_group = 0; // its next row is a common one again
      return true;
    });
    if (group->members.empty()) {
      group = retries_.erase(group);
      continue;
    }
    auto rests = [&](sequence_id id) { return find(id)->in_flight == 0; };
    if (!std::all_of(group->members.begin(), group->members.end(), rests)) {
      ++group;
      continue;
    }
    for (auto id : group->members) {
      auto* e = find(id);
      add_row(s, *e, std::min(e->retry_count, e->remaining()));
    }
    retries_.erase(group);
    return true;
  }
  return false;
}

void batching::add_decodes(uint32_t depth, step& s) {
  const auto streams = ready_.size() + flying_decodes();
  const auto share = (streams + depth - 1) / depth;
  const auto most = std::min<size_t>({share, ready_.size(), limits_.max_step_tokens});
  if (most == 0)
    return;
  // A copy, because making room may take sequences out of the line.
  picked_.assign(ready_.begin(), ready_.end());
  for (auto* e : picked_) {
    if (s.rows.size() == most)
      break;
    if (e->in_line != line::ready)
      continue;
    if (e->scheduled / limits_.block_tokens == e->table.size()) {
      // Nobody gives up blocks for a row that can as well wait for the one before it.
      if (e->in_flight > 0 && ledger_.available() == 0)
        continue;
      if (!make_room(*e))
        continue;
    }
    e->in_line = line::none;
    add_row(s, *e, 1);
  }
  std::erase_if(ready_, [](const entry* e) { return e->in_line != line::ready; });
}

prefill_share::demand batching::prompt_demand(uint32_t depth, uint32_t decode_rows) const {
  prefill_share::demand demand;
  demand.decode_rows = decode_rows;
  demand.streams = static_cast<uint32_t>(ready_.size()) + flying_decodes() + building_.decode_rows;
  demand.depth = depth;
  demand.prompts = static_cast<uint32_t>(prompts_.size());
  for (const auto* e : prompts_)
    demand.prompt_tokens += e->remaining();
  // A look at the head of the line is enough to tell a burst from a single prompt.
  auto in_reach = std::min(limits_.max_sequences - slots_used_, 256u);
  for (auto i = waiting_.begin(); i != waiting_.end() && in_reach > 0; ++i, --in_reach) {
    ++demand.prompts;
    demand.prompt_tokens += (*i)->to_compute();
  }
  demand.burst_tokens = burst_issued_ + demand.prompt_tokens;
  return demand;
}

bool batching::awaits_company(uint32_t depth) const {
  if (!limits_.ahead || flights_.empty() || !retries_.empty() ||
      slots_used_ >= limits_.max_sequences)
    return false;
  const bool prompts_fly = std::any_of(flights_.begin(), flights_.end(),
                                       [](const flight& f) { return f.prompt_tokens > 0; });
  // Whoever waits for blocks that nobody gives back can't come along.
  const bool refused = !waiting_.empty() && (*waiting_.begin())->refused_at != UINT32_MAX &&
                       ledger_.available() <= (*waiting_.begin())->refused_at;
  if (!prompts_fly && prompts_.empty() && (waiting_.empty() || refused))
    return false;
  const auto rows = std::min(static_cast<uint32_t>(ready_.size()), limits_.max_step_tokens);
  const auto demand = prompt_demand(std::max(depth, 1u), rows);
  return demand.prompt_tokens < std::min(limits_.max_step_tokens - rows, share_.tokens(demand));
}

double batching::expected_ns() const {
  double sum = 0;
  for (const auto& f : flights_) {
    const auto decodes = f.decode_rows > 0 ? share_.decode_time(f.decode_rows) : 0;
    const auto prompts = f.prompt_tokens * share_.token_time();
    if ((f.decode_rows > 0 && decodes == 0) || (f.prompt_tokens > 0 && prompts == 0))
      return 0;
    sum += decodes + prompts;
  }
  return sum;
}

void batching::add_prompts(uint32_t depth, step& s) {
  if (prompts_.empty() && waiting_.empty())
    return;
  const auto demand = prompt_demand(depth, building_.decode_rows);
  collect_computing();
  auto left = limits_.max_step_tokens - static_cast<uint32_t>(s.tokens.size());
  left = std::min(left, share_.tokens(demand));
  entry* last = nullptr;
  auto newcomer = waiting_.begin();
  while (left > 0) {
    auto place_of_next = last ? prompts_.upper_bound(last) : prompts_.begin();
    auto* next = place_of_next == prompts_.end() ? nullptr : *place_of_next;
    if (newcomer != waiting_.end() && (!next || waiting_.key_comp()(*newcomer, next))) {
      auto* first = *newcomer++;
      if (slots_used_ < limits_.max_sequences && is_being_computed(*first))
        continue; // others may go first meanwhile
      if (!try_admit(*first)) {
        newcomer = waiting_.end(); // nobody overtakes
        continue;
      }
      computing_.push_back(first);
      next = first;
    }
    if (!next)
      break;
    last = next;
    auto count = std::min(left, next->remaining());
    if (!grow_table(*next, count))
      continue;
    add_row(s, *next, count);
    left -= count;
    place(*next);
  }
}

/// Those whose prompt is on its way into the prefix index.
void batching::collect_computing() {
  computing_.clear();
  if (!limits_.prefix_cache || waiting_.empty())
    return;
  computing_.assign(prompts_.begin(), prompts_.end());
  for (const auto& f : flights_)
    for (const auto& row : f.rows)
      if (!row.decode && !row.discard && !row.who->ended && row.who->in_line != line::prompts)
        computing_.push_back(row.who);
}

/// Whether somebody is computing the better part of what `e` needs right now: choices of one
/// request arrive together, and so do requests with one long beginning. Waiting for the blocks is
/// cheaper for all than computing them again.
bool batching::is_being_computed(const entry& e) const {
  if (!may_read_cache(e) || !e.host.empty())
    return false;
  const auto most = (e.tokens.size() - 1) / limits_.block_tokens * limits_.block_tokens;
  for (const auto* other : computing_) {
    if (other->spec.cache_salt != e.spec.cache_salt || other->spec.rope_base != e.spec.rope_base)
      continue;
    const auto reach = std::min(most, other->tokens.size());
    auto end = std::mismatch(e.tokens.begin(), e.tokens.begin() + static_cast<ptrdiff_t>(reach),
                             other->tokens.begin());
    auto common = static_cast<size_t>(end.first - e.tokens.begin());
    common -= common % limits_.block_tokens;
    // What the other one has computed already is there to be had at once.
    const auto to_come = common - std::min<size_t>(common, other->done);
    if (to_come > 0 && common * 2 >= e.tokens.size())
      return true;
  }
  return false;
}

/// Log-probabilities of the prompt, once collected, are not wanted a second time.
bool batching::may_read_cache(const entry& e) const {
  const auto& wants = e.spec.wants;
  if (e.group && e.group->how->wants_prompt_hidden())
    return false;
  return limits_.prefix_cache && !wants.hidden_state &&
         !(wants.prompt_logprobs && e.generated() == 0);
}

/// Gives a slot, the cached prefix and blocks for all its tokens, or changes nothing.
bool batching::try_admit(entry& e) {
  if (slots_used_ + e.width > limits_.max_sequences || e.host_flying)
    return false;
  if (e.refused_at != UINT32_MAX && ledger_.available() <= e.refused_at)
    return false;
  block_ledger::match_result hit;
  // The last token is always computed, because its logits are what is wanted.
  if (may_read_cache(e))
    hit = ledger_.match(e.tokens, static_cast<uint32_t>(e.tokens.size() - 1) / limits_.block_tokens,
                        scope_of(e), e.table);
  const auto needed = blocks_for(e.tokens.size()) - hit.blocks;
  // Each running sequence may soon want a block; without that margin a newcomer would often be
  // preempted at once.
  if (ledger_.available() < needed + blocks_of_saved(e) + slots_used_) {
    ledger_.release_all(e.table);
    e.refused_at = ledger_.available();
    return false;
  }
  for (uint32_t i = 0; i < needed; ++i)
    e.table.push_back(*ledger_.allocate());
  e.chain = hit.last;
  e.published = hit.blocks;
  e.scheduled = e.done = hit.blocks * limits_.block_tokens;
  if (!e.had_slot)
    e.cached = e.done;
  if (!e.host.empty())
    move_in(e, hit.blocks);
  e.has_slot = e.had_slot = true;
  slots_used_ += e.width;
  place(e);
  return true;
}

/// Appends one more block to its table. When there is none, the youngest gives its own up: at once,
/// or, while steps name it, later, and then this sequence sits out a step.
bool batching::make_room(entry& needing) {
  for (;;) {
    if (auto block = ledger_.allocate()) {
      needing.table.push_back(*block);
      return true;
    }
    auto* victim = youngest();
    if (!victim)
      return false; // somebody is about to leave
    if (!rests(*victim)) {
      for_lanes(*victim, [this](entry& lane) {
        lane.preempting = true;
        place(lane);
      });
      return false;
    }
    preempt(*victim);
    if (victim == &needing.head())
      return false;
  }
}

/// Who loses its blocks next; nobody while blocks are coming back anyway.
batching::entry* batching::youngest() const {
  entry* last = nullptr;
  for (const auto& p : entries_) {
    if (!p || !p->has_slot || p->is_side_lane())
      continue;
    if (p->ended || p->preempting)
      return nullptr;
    auto later = [](const entry& a, const entry& b) {
      return a.parked != b.parked ? a.parked : by_order{}(&b, &a);
    };
    if (!last || later(*p, *last))
      last = p.get();
  }
  return last;
}

void batching::add_row(step& s, entry& e, uint32_t count) {
  const auto position = e.scheduled;
  const auto end = position + count;
  step_row row;
  row.sequence = e.id;
  row.position = position;
  row.first_token = static_cast<uint32_t>(s.tokens.size());
  row.token_count = count;
  row.first_block = static_cast<uint32_t>(s.blocks.size());
  const bool ahead = position == e.tokens.size();
  if (ahead)
    s.tokens.push_back(pending_token);
  else
    s.tokens.insert(s.tokens.end(), e.tokens.begin() + position, e.tokens.begin() + end);
  if (!e.introduced) {
    s.starts.push_back({e.id, e.prompt_length, e.tokens, e.spec.sampling, e.spec.rope_base});
    e.unconfirmed = e.known;
    e.introduced = e.known = true;
    e.sent = 0;
  }
  const auto wanted = std::max(blocks_for(end), e.sent);
  s.blocks.insert(s.blocks.end(), e.table.begin() + e.sent, e.table.begin() + wanted);
  row.block_count = wanted - e.sent;
  e.sent = wanted;

  if (e.copy_from && position == e.forked_at)
    s.copies.push_back({*e.copy_from, e.table[position / limits_.block_tokens]});

  const bool sampled = end >= e.tokens.size();
  row.wants.top_n = e.spec.wants.top_n;
  if (e.group) {
    want_lane(e, sampled, row.wants);
  } else if (sampled) {
    row.wants.sample = true;
    row.wants.hidden_state = e.spec.wants.hidden_state;
  }
  const auto last_scored = std::min(end, e.prompt_length - 1);
  row.wants.prompt_logprobs =
      e.spec.wants.prompt_logprobs && position < last_scored && last_scored > e.scored;
  s.rows.push_back(row);

  const bool decode = e.decoding || ahead;
  building_.rows.push_back({&e, position, count, sampled, decode, false});
  (decode ? building_.decode_rows : building_.prompt_tokens) += count;
  e.scheduled = end;
  ++e.in_flight;
  e.drawing += sampled;
}

} // namespace troupe::scheduling
