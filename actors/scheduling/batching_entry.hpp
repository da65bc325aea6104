#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "troupe/actors/scheduling/batching.hpp"
#include "troupe/actors/scheduling/search.hpp"

namespace troupe::scheduling {

/// A sequence that is searched for: its root, which has the name and the slots, computes the prompt
/// alone; then lanes go on side by side, round by round. A round is over when every lane has its
/// row, in whatever steps. Lanes get and lose slots, blocks and turns together.
struct batching::lane_group {
  std::unique_ptr<search> how;
  entry* root = nullptr;
  uint32_t width = 1;           ///< Lanes at most; the slots that it takes.
  std::vector<entry*> lanes;    ///< Of this round, the root among them; empty before the first.
  std::vector<row_result> rows; ///< What they brought.
  uint32_t missing = 0;         ///< Lanes whose row is yet to come.
  /// Tokens of the lanes while their KV is gone and the root computes their common beginning.
  std::vector<std::vector<int32_t>> saved;
  bool told = false; ///< The first token is out.
};

/// A sequence as the policy sees it. Internal to batching's source files.
struct batching::entry {
  sequence_id id{};
  uint32_t index = 0;
  new_sequence spec; ///< Its prompt has moved to `tokens`.
  uint32_t prompt_length = 0;
  std::vector<int32_t> tokens; ///< Prompt and what was generated, as the host knows it.
  uint32_t scheduled = 0;      ///< Positions that were put into steps.
  uint32_t done = 0;           ///< Positions whose KV is known to be computed.
  uint32_t cached = 0; ///< Positions that came from the prefix cache at the first admission.

  std::vector<block_id> table;         ///< Blocks it references, by position.
  uint32_t sent = 0;                   ///< Of those, known to the shards.
  uint32_t published = 0;              ///< Of those, in the prefix index.
  content_id chain = content_id::none; ///< The content of the last published one.

  /// Its KV in host memory, by position, while it has no slot.
  std::vector<block_id> host;
  uint32_t host_positions = 0; ///< So many positions are in there.
  bool host_flying = false;    ///< The step that moves them there is not over yet.

  uint32_t in_flight = 0;   ///< Steps that name it.
  uint32_t drawing = 0;     ///< Of its rows in them, those that draw a token that will count.
  uint64_t retry_group = 0; ///< The group that tries its failed row again; 0 = none.
  uint32_t retry_count = 0; ///< Tokens of that row.
  line in_line = line::none;
  bool has_slot = false;
  bool had_slot = false;   ///< Ever.
  bool introduced = false; ///< The shards' table for it is ours (since the last start).
  bool known = false;      ///< The shards have heard of it and must forget it one day.
  /// Introduced anew and no step since has succeeded. Should the step with the introduction fail, a
  /// shard may still hold the old table, whose blocks are others' now: no further chunk may follow.
  bool unconfirmed = false;
  bool decoding = false; ///< Its last token was drawn since it got its slot.
  bool parked = false;
  bool ended = false;
  bool preempting = false;          ///< Loses its slot once nothing is in flight.
  uint32_t refused_at = UINT32_MAX; ///< Available blocks when admission last failed.

  lane_group* group = nullptr;             ///< Of a search.
  std::unique_ptr<lane_group> owned_group; ///< The root's.
  uint32_t width = 1;                      ///< Slots that it takes; 0 for a lane that is no root.
  /// A lane whose last, incomplete block is its parent's: referenced until the copy is made by the
  /// step with the row at `forked_at`.
  std::optional<block_id> copy_from;
  uint32_t forked_at = 0;

  uint32_t scored = 0; ///< Prompt positions whose log-probabilities are collected.
  std::vector<token_value> prompt_scores;
  std::vector<std::vector<token_value>> prompt_tops;

  /// Who speaks for it: itself, or the root of its search.
  entry& head() { return group ? *group->root : *this; }
  const entry& head() const { return group ? *group->root : *this; }
  bool is_side_lane() const { return group && group->root != this; }

  uint32_t generated() const { return static_cast<uint32_t>(tokens.size()) - prompt_length; }
  /// Known tokens that no step has been fed yet.
  uint32_t remaining() const {
    const auto known = static_cast<uint32_t>(tokens.size());
    return known - std::min(known, scheduled);
  }
  /// Known tokens that will have to be computed once it has a slot.
  uint32_t to_compute() const {
    const auto known = static_cast<uint32_t>(tokens.size());
    return known - std::min(known, std::max(scheduled, host_positions));
  }
  /// Its next row can feed the token that the row in flight draws, and that one is not its last.
  bool may_go_ahead() const {
    return drawing == 1 && scheduled == tokens.size() && !unconfirmed && !spec.needs_host &&
           generated() + 1 < spec.max_new_tokens;
  }
};

/// The lanes of the search that it belongs to, or itself alone.
template <class F>
void batching::for_lanes(entry& e, F&& f) {
  if (!e.group || e.group->lanes.empty())
    return f(e);
  for (auto* lane : e.group->lanes)
    f(*lane);
}

} // namespace troupe::scheduling
