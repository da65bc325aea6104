#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "troupe/actors/scheduling/block_ledger.hpp"
#include "troupe/actors/scheduling/host_swap.hpp"
#include "troupe/actors/scheduling/limits.hpp"
#include "troupe/actors/scheduling/prefill_share.hpp"
#include "troupe/actors/scheduling/search.hpp"
#include "troupe/actors/scheduling/sequence.hpp"

namespace troupe::scheduling {

/// What a step's end means for one sequence. At most one per sequence and step.
struct sequence_event {
  sequence_id sequence{};
  uint32_t index = 0;     ///< The sequence's place; see `admitted`.
  bool has_token = false; ///< `row` holds one more token.
  bool first = false;     ///< It is the sequence's first.
  row_result row;
  uint32_t cached_tokens = 0; ///< With the first token: prompt tokens taken from the prefix cache.
  std::optional<sequence_end> end;      ///< It ended by itself, after the token.
  caf::error fault;                     ///< It ended with this error; no token.
  std::vector<sequence_output> outputs; ///< With the end of a search that tells nothing before.
};

/// A new sequence's id and its place among the live ones. The place is free for another sequence
/// only after this one's blocks are back, so a table by place needs no hashing.
struct admitted {
  sequence_id sequence{};
  uint32_t index = 0;
};

/// What happened so far.
struct policy_counts {
  uint64_t preemptions = 0;
  uint64_t swaps_out = 0; ///< Preempted sequences that left their KV in host memory...
  uint64_t swaps_in = 0;  ///< ...and came back for it.
  uint64_t replays = 0;
  uint64_t step_faults = 0;
  uint64_t row_faults = 0;
  uint64_t surplus_tokens = 0;
};

/// Decides what each step runs, and follows every sequence from admission to its end. A plain
/// single-threaded class without clock, actors or tensors: same calls in, same steps out.
///
/// A sequence waits for a slot, computes its prompt in chunks, then decodes a token per step. A
/// step takes one token each of the decoding sequences first, in the order in which they became
/// ready, then chunks of prompts by priority and arrival, as far as the token budget and
/// `prefill_share` allow. When blocks run out the youngest sequence gives up its KV (parked ones
/// first, which make no progress anyway): it is computed again later, or waits in host memory
/// where that is faster. Whatever has to leave waits
/// until no step in flight names it. A sequence whose beginning somebody else is computing right
/// now waits for those blocks, and others may start before it.
class batching {
public:
  explicit batching(const batching_limits& limits);
  ~batching();
  batching(batching&&) noexcept;
  batching& operator=(batching&&) noexcept;

  /// Puts a sequence at the end of its priority's and turn's waiting line. Errors: ec::queue_full,
  /// ec::invalid_request (empty, or can never fit the KV cache).
  caf::expected<admitted> admit(new_sequence s);

  /// Nobody wants more of it. Its place, or nothing when it is unknown or over.
  std::optional<uint32_t> finish(sequence_id id);

  /// Keeps slot and KV, but puts it into no step until `resume`. Unknown ids are ignored.
  void park(sequence_id id);
  void resume(sequence_id id);

  /// True while the sequence has never had a slot.
  bool never_started(sequence_id id) const;

  /// Builds the next step of a pipeline with `depth` shards, over which the decoding sequences are
  /// spread evenly. False when nothing is ready. `out` is overwritten. Once it has its id, the step
  /// must be registered with `launched`, before any other call.
  bool next(uint32_t depth, step& out);

  /// Where steps are scheduled ahead: whether the next one should stay back as long as the device
  /// is busy with those in flight. So it is around prompts, of which the step could take more than
  /// there are: whoever arrives in time then comes along. A full step, and one of decode rows
  /// behind others like it, gains nothing by waiting.
  bool awaits_company(uint32_t depth) const;

  /// How long (ns) the steps in flight are expected to take; 0 = unknown.
  double expected_ns() const;

  /// The step from the last `next` went out under this id.
  void launched(step_id id);

  /// A step in flight is done. Appends what it means to `events`; moves from `result`.
  void apply(step_result& result, std::vector<sequence_event>& events);

  /// A step in flight failed and was voided: nothing it computed counts. Its rows are tried again
  /// in halves; a row that fails alone, after it had failed before, ends its sequence with
  /// `reason`.
  void fail(step_id id, const caf::error& reason, std::vector<sequence_event>& events);

  /// All KV is gone and no step is in flight any more: prompt and tokens so far of every running
  /// sequence will be computed again.
  void lose_all();

  /// Ids of all live sequences and their places, in no particular order.
  std::vector<admitted> live() const;

  /// Without steps_in_flight, which is the pipeline's.
  scheduler_load load() const;
  const policy_counts& counts() const { return counts_; }
  const block_ledger& ledger() const { return ledger_; }
  const host_swap& swap() const { return swap_; }
  const prefill_share& share() const { return share_; }

  /// Checks the bookkeeping against itself, for tests. Empty when all is well.
  std::string audit() const;

private:
  struct entry;
  struct lane_group;
  struct flight_row {
    entry* who = nullptr;
    uint32_t position = 0;
    uint32_t count = 0;
    bool sampled = false;
    bool decode = false;
    bool discard = false; ///< An earlier step of the same sequence failed: computed on rubbish.
  };
  /// A step on the shards.
  struct flight {
    step_id id{};
    bool retry = false;
    uint32_t decode_rows = 0;
    uint32_t prompt_tokens = 0;
    std::vector<flight_row> rows;
    std::vector<sequence_id> dropped;   ///< To be said again if the step fails.
    std::vector<sequence_id> moved_out; ///< Their KV leaves for host memory.
    std::vector<sequence_id> moved_in;  ///< Theirs comes back.
  };
  /// Rows of a failed step that are to be a step of their own.
  struct retry_group {
    uint64_t id = 0;
    std::vector<sequence_id> members; ///< Those that still carry the id.
  };
  /// Where the next step looks for a sequence.
  enum class line : uint8_t { none, waiting, prompts, ready };
  struct by_order {
    bool operator()(const entry* a, const entry* b) const;
  };
  using entry_set = std::set<entry*, by_order>;

  entry* find(sequence_id id) const;
  caf::error check_room(const new_sequence& s) const;
  entry& add_entry();
  prefix_scope scope_of(const entry& e) const;
  uint32_t blocks_for(uint64_t positions) const;

  // Lines and lives.
  line line_of(const entry& e) const;
  void place(entry& e);
  void settle(entry& e);
  void end(entry& e);
  void destroy(entry& e);
  void give_up_blocks(entry& e);
  void preempt(entry& e);

  // Searches.
  void make_group(entry& e);
  template <class F>
  void for_lanes(entry& e, F&& f);
  bool rests(const entry& e) const;
  void settle_group(lane_group& group);
  void take_lane(entry& e, const flight_row& row, row_result& result,
                 std::vector<sequence_event>& events);
  void advance(lane_group& group, std::vector<sequence_event>& events);
  void spread(lane_group& group, const std::vector<lane_step>& next);
  void spread_saved(lane_group& group);
  entry& add_lane(lane_group& group);
  void fork(const entry& parent, entry& child);
  void take_over(entry& from, entry& to);
  void drop_copy(entry& e);
  void dissolve(entry& root);
  void want_lane(const entry& e, bool last, row_wants& wants) const;
  bool grow_table(entry& e, uint32_t& count);
  uint64_t blocks_of_saved(const entry& root) const;
  // batching_swap.cpp
  void move_out(entry& e);
  void move_in(entry& e, uint32_t first);
  void forget_host(entry& e);
  void attach_moves(step& s);
  void moves_landed(const flight& f);
  void moves_failed(const flight& f);

  // Building a step.
  bool may_read_cache(const entry& e) const;
  void collect_computing();
  bool is_being_computed(const entry& e) const;
  bool try_admit(entry& e);
  bool make_room(entry& needing);
  entry* youngest() const;
  void add_row(step& s, entry& e, uint32_t count);
  uint32_t flying_decodes() const;
  prefill_share::demand prompt_demand(uint32_t depth, uint32_t decode_rows) const;
  void add_decodes(uint32_t depth, step& s);
  void add_prompts(uint32_t depth, step& s);
  bool add_retries(step& s);

  // After a step.
  std::deque<flight>::iterator find_flight(step_id id);
  void take_row(const flight_row& row, row_result& result, std::vector<sequence_event>& events);
  void collect_prompt(entry& e, const flight_row& row, row_result& result);
  void publish(entry& e);
  void fault(entry& e, caf::error reason, std::vector<sequence_event>& events);

  batching_limits limits_;
  block_ledger ledger_;
  prefill_share share_;
  host_swap swap_;
  policy_counts counts_;

  uint64_t last_sequence_ = 0;
  std::vector<std::unique_ptr<entry>> entries_; ///< By place.
  std::vector<std::unique_ptr<entry>> buried_;  ///< Gone, but a loop may still look at them.
  std::vector<uint32_t> places_;                ///< Free ones.
  std::unordered_map<uint64_t, entry*> by_id_;

  entry_set waiting_;
  entry_set prompts_;             ///< With a slot, prompt not yet computed.
  std::vector<entry*> picked_;    ///< Reused.
  std::vector<entry*> computing_; ///< Reused.
  std::vector<entry*> ready_;     ///< Next token due, nothing in flight; longest waiting first.
  uint32_t slots_used_ = 0;
  uint32_t parked_ = 0;
  std::deque<retry_group> retries_;
  uint64_t last_group_ = 0;
  std::vector<block_swap> swaps_out_; ///< For the next step...
  std::vector<block_swap> swaps_in_;
  std::vector<sequence_id> moved_out_; ///< ...and whose they are.
  std::vector<sequence_id> moved_in_;
  std::vector<sequence_id> dropped_; ///< To be forgotten by the shards with the next step.

  uint64_t burst_issued_ = 0; ///< Prompt tokens issued since no prompt waited.

  flight building_; ///< Filled by `next`, taken over by `launched`.
  std::deque<flight> flights_;
  std::vector<flight> spare_; ///< Kept for their capacity.
};

} // namespace troupe::scheduling
