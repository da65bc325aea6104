#include <algorithm>

#include "troupe/actors/scheduling/batching_entry.hpp"
#include "troupe/actors/scheduling/beam_search.hpp"
#include "troupe/actors/scheduling/contrastive_search.hpp"

/// Searches: sequences that go on in several lanes.
namespace troupe::scheduling {

std::unique_ptr<search> make_search(const new_sequence& s) {
  const auto& p = s.search;
  if (p.kind == search_kind::contrastive)
    return std::make_unique<contrastive_search>(contrastive_search::rules{
        .candidates = p.lanes,
        .alpha = p.penalty_alpha,
        .embeddings = p.embeddings,
        .ends = s.stop_tokens,
        .max_new_tokens = s.max_new_tokens,
        .top_n = s.wants.top_n,
    });
  return std::make_unique<beam_search>(beam_search::rules{
      .beams = p.lanes,
      .returned = p.returned,
      .length_penalty = p.length_penalty,
      .stopping = p.stopping,
      .groups = p.groups,
      .diversity_penalty = p.diversity_penalty,
      .ends = s.stop_tokens,
      .max_new_tokens = s.max_new_tokens,
      .top_n = s.wants.top_n,
      .watch = s.watch.shared,
  });
}

void batching::make_group(entry& e) {
  e.owned_group = std::make_unique<lane_group>();
  e.group = e.owned_group.get();
  e.group->how = make_search(e.spec);
  e.group->root = &e;
  e.group->width = e.width = std::max(e.spec.search.lanes, 1u);
  // No row can be fed before the round has decided on its token.
  e.spec.needs_host = true;
}

/// Whether no step names it, nor any lane of its search.
bool batching::rests(const entry& e) const {
  if (!e.group || e.group->lanes.empty())
    return e.in_flight == 0;
  return std::all_of(e.group->lanes.begin(), e.group->lanes.end(),
                     [](const entry* lane) { return lane->in_flight == 0; });
}

/// A search that is over, or that has to give up its blocks, does so lane by lane or at once.
void batching::settle_group(lane_group& group) {
  auto& root = *group.root;
  if (!root.ended) {
    if (rests(root))
      preempt(root);
    return;
  }
  std::erase_if(group.lanes, [this](entry* lane) {
    if (!lane->is_side_lane())
      return false;
    if (lane->in_flight > 0)
      return false;
    destroy(*lane);
    return true;
  });
  const auto side_lanes = std::count_if(group.lanes.begin(), group.lanes.end(),
                                        [](const entry* lane) { return lane->is_side_lane(); });
  if (side_lanes == 0 && root.in_flight == 0)
    destroy(root);
}

// -- building a step -----------------------------------------------------------------------------

void batching::want_lane(const entry& e, bool last, row_wants& wants) const {
  const auto& group = *e.group;
  if (last && group.saved.empty()) {
    wants = group.how->wants();
    wants.sample = false;
  }
  if (group.how->wants_prompt_hidden()) {
    const auto own = group.how->wants();
    wants.hidden_state = wants.all_hidden = own.hidden_state;
    wants.embeddings = own.embeddings;
  }
}

/// Sees to blocks for the next `count` positions, or for fewer. False: none this time. Only lanes
/// that compute again what they had are not given all blocks at once.
bool batching::grow_table(entry& e, uint32_t& count) {
  while (e.table.size() < blocks_for(uint64_t{e.scheduled} + count))
    if (!make_room(e))
      break;
  if (!e.head().has_slot || e.in_line != line::prompts)
    return false;
  const auto room = uint64_t{e.table.size()} * limits_.block_tokens;
  if (room <= e.scheduled)
    return false;
  count = static_cast<uint32_t>(std::min<uint64_t>(count, room - e.scheduled));
  return true;
}

/// Blocks that the lanes will need beyond those of their common beginning.
uint64_t batching::blocks_of_saved(const entry& root) const {
  if (!root.group || root.group->saved.empty())
    return 0;
  const auto whole = root.tokens.size() / limits_.block_tokens;
  uint64_t sum = 0;
  for (const auto& tokens : root.group->saved)
    sum += blocks_for(tokens.size()) - whole;
  // One of them goes on in the root's own last block.
  return sum - (blocks_for(root.tokens.size()) - whole);
}

// -- after a row ---------------------------------------------------------------------------------

void batching::take_lane(entry& e, const flight_row& row, row_result& result,
                         std::vector<sequence_event>& events) {
  auto& group = *e.group;
  if (group.how->wants_prompt_hidden())
    group.how->take_hidden(row.position, row.count, result.hidden);
  if (!row.sampled)
    return;
  if (!group.saved.empty())
    return spread_saved(group);
  if (group.lanes.empty()) {
    group.rows.clear();
    group.rows.push_back(std::move(result));
    return advance(group, events);
  }
  const auto lane = std::find(group.lanes.begin(), group.lanes.end(), &e) - group.lanes.begin();
  group.rows[static_cast<size_t>(lane)] = std::move(result);
  if (--group.missing == 0)
    advance(group, events);
}

/// A round is complete.
void batching::advance(lane_group& group, std::vector<sequence_event>& events) {
  auto& root = *group.root;
  auto move = group.how->advance(group.rows);
  // Nothing goes on: every continuation is masked.
  if (move.lanes.empty() && !move.end)
    move.end = sequence_end::stop_token;
  if (move.token || move.end) {
    auto& event = events.emplace_back();
    event.sequence = root.id;
    event.index = root.index;
    event.end = move.end;
    if (move.end)
      event.outputs = group.how->outputs();
    if (move.token) {
      event.has_token = true;
      event.row = std::move(*move.token);
    }
    auto* first = move.token              ? &event.row
                  : event.outputs.empty() ? nullptr
                                          : &event.outputs.front().tokens.front();
    if (first && !std::exchange(group.told, true)) {
      event.first = true;
      event.cached_tokens = root.cached;
      first->prompt = std::move(root.prompt_scores);
      first->prompt_top = std::move(root.prompt_tops);
    }
  }
  if (move.end)
    end(root);
  else
    spread(group, move.lanes);
}

// -- lanes ---------------------------------------------------------------------------------------

batching::entry& batching::add_lane(lane_group& group) {
  auto& e = add_entry();
  const auto& root = *group.root;
  e.spec = root.spec;
  e.spec.wants.prompt_logprobs = false;
  e.prompt_length = root.prompt_length;
  e.group = &group;
  e.width = 0;
  e.has_slot = e.had_slot = true;
  return e;
}

void batching::drop_copy(entry& e) {
  if (e.copy_from)
    ledger_.release(*e.copy_from);
  e.copy_from.reset();
}

/// `child` begins again as what `parent` is now: whole blocks are shared, the last, incomplete one
/// is copied when the child's next row runs. @pre no step names either.
void batching::fork(const entry& parent, entry& child) {
  drop_copy(child);
  ledger_.release_all(child.table);
  const auto whole = parent.done / limits_.block_tokens;
  child.table.assign(parent.table.begin(), parent.table.begin() + whole);
  for (auto block : child.table)
    ledger_.share(block);
  if (parent.done % limits_.block_tokens != 0) {
    child.copy_from = parent.table[whole];
    ledger_.share(*child.copy_from);
  }
  child.forked_at = parent.done;
  child.tokens.assign(parent.tokens.begin(), parent.tokens.end());
  child.scheduled = child.done = parent.done;
  child.published = std::min(parent.published, whole);
  child.chain = parent.chain;
  child.sent = 0;
  child.introduced = false;
}

/// `to` goes on with the blocks and tokens of `from`, which keeps nothing.
void batching::take_over(entry& from, entry& to) {
  drop_copy(to);
  ledger_.release_all(to.table);
  to.table.swap(from.table);
  to.tokens.swap(from.tokens);
  to.scheduled = from.scheduled;
  to.done = from.done;
  to.published = from.published;
  to.chain = from.chain;
  to.sent = 0;
  to.introduced = false;
  from.scheduled = from.done = from.published = 0;
}

/// The lanes of the next round. A lane's first continuation keeps its place and its blocks; others
/// take the places of lanes that nobody continues.
void batching::spread(lane_group& group, const std::vector<lane_step>& next) {
  auto before = group.lanes;
  if (before.empty())
    before.push_back(group.root);
  std::vector<entry*> after(next.size(), nullptr);
  std::vector<bool> goes_on(before.size(), false);
  for (size_t i = 0; i < next.size(); ++i)
    if (!goes_on[next[i].parent]) {
      goes_on[next[i].parent] = true;
      after[i] = before[next[i].parent];
    }
  std::vector<entry*> idle;
  for (size_t i = 0; i < before.size(); ++i)
    if (!goes_on[i])
      idle.push_back(before[i]);
  // The root's name is the search's, so it is the last to be idle.
  std::stable_partition(idle.begin(), idle.end(), [](const entry* e) { return e->is_side_lane(); });
  for (size_t i = 0; i < next.size(); ++i) {
    if (after[i] != nullptr)
      continue;
    auto* child = idle.empty() ? &add_lane(group) : idle.back();
    if (!idle.empty())
      idle.pop_back();
    fork(*before[next[i].parent], *child);
    after[i] = child;
  }
  if (!idle.empty() && idle.back() == group.root) {
    take_over(*after.front(), *group.root);
    idle.back() = after.front();
    after.front() = group.root;
  }
  for (auto* lane : idle)
    destroy(*lane);
  for (size_t i = 0; i < next.size(); ++i) {
    after[i]->tokens.push_back(next[i].token);
    after[i]->decoding = true;
  }
  group.lanes = std::move(after);
  group.rows.assign(next.size(), row_result{});
  group.missing = static_cast<uint32_t>(next.size());
  for (auto* lane : group.lanes)
    place(*lane);
}

/// The common beginning is computed again: the lanes go on from it, each with its own tokens.
void batching::spread_saved(lane_group& group) {
  auto& root = *group.root;
  auto saved = std::move(group.saved);
  group.saved.clear();
  group.lanes.push_back(&root);
  for (size_t i = 1; i < saved.size(); ++i) {
    auto& lane = add_lane(group);
    fork(root, lane);
    group.lanes.push_back(&lane);
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    group.lanes[i]->tokens = std::move(saved[i]);
    group.lanes[i]->decoding = false;
  }
  group.rows.assign(saved.size(), row_result{});
  group.missing = static_cast<uint32_t>(saved.size());
  for (auto* lane : group.lanes)
    place(*lane);
}

/// The lanes' KV goes; what they have in common stays with the root, to be computed again first.
void batching::dissolve(entry& root) {
  if (!root.group || root.group->lanes.empty())
    return;
  auto& group = *root.group;
  group.saved.clear();
  for (const auto* lane : group.lanes)
    group.saved.push_back(lane->tokens);
  // Each lane has at least its last token for itself to feed.
  auto common = group.saved.front().size();
  for (const auto& tokens : group.saved) {
    auto end = std::mismatch(tokens.begin(), tokens.end() - 1, group.saved.front().begin(),
                             group.saved.front().end() - 1);
    common = std::min(common, static_cast<size_t>(end.first - tokens.begin()));
  }
  for (auto* lane : group.lanes)
    if (lane->is_side_lane()) {
      lane->ended = true;
      place(*lane); // out of its line
      destroy(*lane);
    }
  root.tokens = group.saved.front();
  root.tokens.resize(common);
  group.lanes.clear();
  group.rows.clear();
  group.missing = 0;
}

} // namespace troupe::scheduling
