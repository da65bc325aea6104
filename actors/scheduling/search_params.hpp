#pragma once

#include <cstdint>

namespace troupe {

/// Strategies that look at several continuations before they settle a token.
enum class search_kind : uint8_t { none, beams, contrastive };

/// When beam search stops although running beams might still get better.
enum class early_stopping : uint8_t {
  no,    ///< When that looks unlikely.
  yes,   ///< As soon as there are as many finished sequences as beams.
  never, ///< Only when that is impossible.
};

/// How a sequence is searched for (contract generation.md §7).
struct search_params {
  search_kind kind = search_kind::none;
  uint32_t lanes = 1;        ///< Continuations side by side: num_beams, or contrastive's top_k.
  uint32_t returned = 1;     ///< Beams: sequences handed out at the end, at most `lanes`.
  double length_penalty = 1; ///< Beams: score = sum of log-probabilities / length ^ this.
  early_stopping stopping = early_stopping::no;
  float penalty_alpha = 0.6f; ///< Contrastive: weight of the likeness to what stands before.
  /// Beams: so many groups of equal size (a divisor of `lanes`); each goes its own way, and pays
  /// `diversity_penalty` for a token as often as groups before it chose it in the same round.
  uint32_t groups = 1;
  float diversity_penalty = 0;
  /// Contrastive: compares the first layer's input rather than the last layer's output.
  bool embeddings = false;
  friend bool operator==(const search_params&, const search_params&) = default;
};

} // namespace troupe
