#pragma once

#include <cstdint>
#include <vector>

#include "troupe/models/sampling/row_kernels.hpp"
#include "troupe/models/sampling/selection.hpp"
#include "troupe/models/step.hpp"

/// What narrows a distribution before a draw: top_k, top_p, min_p, typical_p, epsilon, eta.
/// Internal to models/sampling.
namespace troupe::models::sampling {

/// Tokens that may still be drawn, in ascending order of their ids, structure of arrays.
struct kept_tokens {
  std::vector<uint32_t> ids;
  std::vector<float> scores;
  std::vector<float> weights;     ///< Proportional to the probabilities.
  std::vector<double> block_sums; ///< Of the weights, per row_block of them.
  double total = 0;               ///< Sum of the weights, `left_out` included.
  double left_out = 0;            ///< Weight of tokens that the first filter was sure to remove.

  /// Sums the weights up again, with nothing left out.
  void recount();
};

struct warp_scratch {
  selection_scratch selection;
  std::vector<float> keys;
  std::vector<float> probabilities;
};

/// Whether anything but the temperature narrows the distribution over `vocabulary` tokens.
bool has_filters(const sampling_params& params, size_t vocabulary);

/// Keeps what top_k, top_p, min_p, typical_p, epsilon_cutoff and eta_cutoff leave, in this order;
/// each works on the distribution that the one before left, and at least one token stays. Where
/// values tie top_p removes the lowest ids first (torch leaves that order open), the others treat
/// equals alike.
/// @param row     Scores after processors and temperature; no NaN, no +Inf, not all -Inf.
/// @param highest The largest of them.
/// Source: transformers 5.17, generation/logits_process.py, with min_tokens_to_keep = 1.
void keep_likely(const sampling_params& params, const row_view& row, float highest,
                 warp_scratch& scratch, kept_tokens& kept);

} // namespace troupe::models::sampling
