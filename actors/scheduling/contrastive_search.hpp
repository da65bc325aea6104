#pragma once

#include "troupe/actors/scheduling/search.hpp"

namespace troupe::scheduling {

/// Contrastive search: the `candidates` most likely tokens are each run through the model, and the
/// one with the highest (1 - alpha) x probability - alpha x (greatest cosine between its hidden
/// state and that of any earlier position) is the next. Everything is fp32; ties go to the likelier
/// one. Remembers the direction of every position's hidden state: 4 bytes x hidden size x length.
/// Source: transformers 4.45.2, GenerationMixin._contrastive_search and _ranking_fast; Su et al.,
/// "A Contrastive Framework for Neural Text Generation" (2022).
class contrastive_search final : public search {
public:
  struct rules {
    uint32_t candidates = 4;
    float alpha = 0.6f;
    bool embeddings = false;
    std::vector<int32_t> ends{};
    uint32_t max_new_tokens = 1;
    uint16_t top_n = 0;
  };

  explicit contrastive_search(rules r) : rules_(std::move(r)) {}

  row_wants wants() const override;
  bool wants_prompt_hidden() const override { return !ranked_; }
  void take_hidden(uint32_t position, uint32_t count, std::span<const float> states) override;
  search_move advance(std::span<row_result> rows) override;

  /// Positions whose hidden states are known.
  uint32_t known() const {
    return width_ == 0 ? 0 : static_cast<uint32_t>(directions_.size() / width_);
  }

private:
  void remember(std::span<const float> state);
  float likeness(std::span<const float> state) const;
  search_move try_candidates(row_result& row, uint32_t lane);

  rules rules_;
  size_t width_ = 0;
  std::vector<float> directions_; ///< [positions, width], each of length 1.
  bool ranked_ = false;           ///< The prompt is known.
  row_result before_;             ///< The row whose candidates the lanes are.
  uint32_t generated_ = 0;
};

} // namespace troupe::scheduling
