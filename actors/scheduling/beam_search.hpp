#pragma once

#include "troupe/actors/scheduling/search.hpp"

namespace troupe::scheduling {

/// Beam search as transformers has it. Each round ranks the candidates of all beams by the sum of
/// their log-probabilities (fp32); those that end a sequence become finished ones, scored by sum /
/// length ^ length_penalty, the best others go on. Ties go to the lower beam, then the lower id.
/// With sampling the candidates are drawn without replacement instead of ranked. A stop string ends
/// a beam as an end token does, as since transformers 4.50; before, all beams had to match at once.
/// When the time is up all running beams are finished ones. Groups of beams (diverse beam search)
/// are searches of their own, in turn within each round, but for the penalty on what others chose.
/// Source: transformers 4.45.2, generation/beam_search.py (BeamSearchScorer, BeamHypotheses) and
/// GenerationMixin._beam_search, _group_beam_search; its stopping criteria: 4.57.1,
/// GenerationMixin._beam_search.
class beam_search final : public search {
public:
  struct rules {
    uint32_t beams = 1;
    uint32_t returned = 1;
    double length_penalty = 1;
    early_stopping stopping = early_stopping::no;
    uint32_t groups = 1; ///< Divides `beams`.
    float diversity_penalty = 0;
    std::vector<int32_t> ends{}; ///< Tokens that end a sequence.
    uint32_t max_new_tokens = 1;
    uint16_t top_n = 0;
    std::shared_ptr<const search_watch> watch{}; ///< May be null.
  };

  explicit beam_search(rules r);

  row_wants wants() const override;
  search_move advance(std::span<row_result> rows) override;
  std::vector<sequence_output> outputs() override;

private:
  static constexpr uint32_t none = UINT32_MAX;

  /// A token and what stood before it; beams share their beginnings.
  struct node {
    uint32_t before = none;
    row_result token;
  };
  struct beam {
    uint32_t last = none;    ///< Its last token's node.
    float score = 0;         ///< Sum of processed log-probabilities.
    watched_text_ptr text{}; ///< Null: no text ends it.
  };
  struct finished {
    double score = 0;
    uint32_t last = none;
  };
  /// Beams that only compete with each other.
  struct group {
    std::vector<beam> beams{beam{}};
    std::vector<finished> found{}; ///< In the order of their discovery.
    double worst = 1e9;            ///< Lowest score of `found`.
    bool done = false;
  };
  /// A continuation of a beam.
  struct option {
    uint32_t beam = 0;   ///< Of its group.
    uint32_t parent = 0; ///< That beam's lane.
    uint32_t rank = 0;   ///< Among its row's candidates.
    int32_t token = -1;
    float score = 0; ///< Of the beam with it.
    float key = 0;   ///< What it is chosen by.
  };

  size_t group_size() const { return rules_.beams / rules_.groups; }
  size_t kept_options() const;
  std::vector<option> best_options(std::span<const row_result> rows, const group& from,
                                   uint32_t first_lane) const;
  float penalty_of(int32_t token) const;
  uint32_t grow(const beam& parent, const option& o, const row_result& row);
  void finish(group& to, double sum, uint32_t last) const;
  bool is_done(const group& of, double best_sum) const;
  void advance(group& g, std::span<row_result> rows, uint32_t first_lane,
               std::vector<lane_step>& lanes);

  rules rules_;
  uint32_t length_ = 0; ///< Tokens of each running beam.
  std::vector<node> nodes_;
  std::vector<group> groups_;
  std::vector<int32_t> chosen_; ///< By the groups that have had their turn in this round.
};

} // namespace troupe::scheduling
