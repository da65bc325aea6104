#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "troupe/actors/scheduling/sequence.hpp"
#include "troupe/models/step.hpp"

/// Strategies that follow several continuations of one prompt at a time. Each continuation is a
/// lane: a sequence of its own on the shards, whose KV begins with that of the lane it came from.
namespace troupe::scheduling {

/// A lane of the next round: `token` behind what the lane `parent` of this round holds.
struct lane_step {
  uint32_t parent = 0;
  int32_t token = -1;
  friend bool operator==(const lane_step&, const lane_step&) = default;
};

/// What a round decided.
struct search_move {
  std::vector<lane_step> lanes;    ///< Empty: the search is over.
  std::optional<row_result> token; ///< One more token of the answer is settled.
  std::optional<sequence_end> end; ///< Set when it is over.
};

/// One search. A plain single-threaded class that sees rows and names lanes; whoever owns it runs
/// them. Rounds that are computed again bring the same rows.
class search {
public:
  virtual ~search() = default;

  /// What the last position of every lane has to bring.
  virtual row_wants wants() const = 0;

  /// Whether rows before the first round must bring all their hidden states to `take_hidden`.
  virtual bool wants_prompt_hidden() const { return false; }
  /// @param position Of the first of `count`. @param states [count, hidden]
  virtual void take_hidden(uint32_t position, uint32_t count, std::span<const float> states) {
    static_cast<void>(position), static_cast<void>(count), static_cast<void>(states);
  }

  /// Takes the rows of all lanes, in their order; at first that of the prompt. Moves from them.
  virtual search_move advance(std::span<row_result> rows) = 0;

  /// The finished sequences, the best first, for a search that settles nothing before its end.
  virtual std::vector<sequence_output> outputs() { return {}; }
};

/// The strategy that `s.search` asks for. @pre its kind is not none
std::unique_ptr<search> make_search(const new_sequence& s);

} // namespace troupe::scheduling
