#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "troupe/models/rope.hpp"
#include "troupe/models/sampling/sampler.hpp"
#include "troupe/models/step.hpp"

namespace troupe::models {

/// What a stage knows of one sequence.
struct sequence_state {
  std::vector<uint32_t> blocks; ///< Position p is in blocks[p / block_tokens].
  bool has_bad_block = false;
  uint32_t slot = 0; ///< Dense and small; free again when the sequence is dropped.
  std::shared_ptr<const std::vector<float>> frequencies; ///< Null unless rotary.
  std::optional<sequence_sampler> sampler;               ///< On the last stage.
  uint32_t draws_at = 0;         ///< Place of the token that its last row draws; 0 = it draws none.
  int32_t drawn = pending_token; ///< That token, once the host knows it.
};

/// A row whose sequence is known and whose numbers are sane, or what is wrong with it.
struct checked_row {
  sequence_state* sequence = nullptr;
  std::string fault; ///< Not empty: the row is not computed.
  /// What stands for `pending_token` in the row, if the host knows it.
  int32_t pending = pending_token;
};

/// A stage's memory of the sequences that steps talk about. All stages of a model see the same
/// steps and come to the same verdict on each row, so they agree on which rows are computed.
class sequence_table {
public:
  struct limits {
    uint32_t block_tokens = 0;
    uint32_t blocks = 0;
    uint32_t context = 0;
    uint32_t vocabulary = 0;
    bool whole = false; ///< The stage holds all layers: rows may feed `pending_token`.
    /// Such a token may be known to the device only when the row is computed.
    bool draws_on_device = false;
  };

  /// @param rope Null: positions are not rotated.
  /// @param samples Keeps histories and sampling parameters: the last stage.
  sequence_table(limits l, const rope_spec* rope, bool samples);

  /// Forgets, introduces and extends sequences as the step says. Must be called once for each step,
  /// in order, whether it runs or is skipped. The rows in `rows()` then belong to this step.
  void apply(const step& s);

  std::span<const checked_row> rows() const { return rows_; }
  /// Null when there is no such sequence.
  const sequence_state* find(sequence_id id) const {
    const auto found = sequences_.find(id);
    return found == sequences_.end() ? nullptr : &found->second;
  }

  size_t size() const { return sequences_.size(); }

private:
  void start(const sequence_start& s);
  std::string check(const step& s, const step_row& row, sequence_state& state) const;
  std::shared_ptr<const std::vector<float>> frequencies_for(double base);

  limits limits_;
  std::optional<rope_spec> rope_;
  bool samples_;
  std::unordered_map<sequence_id, sequence_state> sequences_;
  std::unordered_map<double, std::weak_ptr<const std::vector<float>>> frequencies_;
  std::shared_ptr<const std::vector<float>> own_frequencies_;
  std::vector<checked_row> rows_;
  std::vector<uint32_t> free_slots_;
  uint32_t slots_ = 0; ///< Given out so far.
};

} // namespace troupe::models
