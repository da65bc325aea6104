#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "troupe/config/error.hpp"

/// What a model is fed and what it answers. No torch here: schedulers, remote shards and tests
/// speak this vocabulary. Everything is a plain value and can be serialised (`inspect` is in
/// actors/interfaces.hpp).
namespace troupe {

/// Names one sequence for its whole life; never reused within a process.
enum class sequence_id : uint64_t {};
/// Counts the steps of one scheduler; shards run them in this order.
enum class step_id : uint64_t {};
/// Counts the lives of a model's shards; results of an older epoch are dropped.
enum class epoch_id : uint32_t {};
/// One page of the KV cache, the same number on every shard; holds `kv_block_tokens` positions.
enum class block_id : uint32_t {};

/// A token and a number that belongs to it: a log-probability, or a logit bias.
struct token_value {
  int32_t token = -1;
  float value = 0;
  friend bool operator==(const token_value&, const token_value&) = default;
};

/// How the next token is chosen (contract generation.md §2, §2.1, in that order of operations).
/// A default-constructed value is greedy without any processor.
struct sampling_params {
  bool sample = false; ///< false: argmax, ties to the lowest id.
  uint64_t seed = 0;   ///< Philox key; with `sequence_index` and the position, the only randomness.
  uint32_t sequence_index = 0; ///< i of n for requests that ask for several sequences.
  float temperature = 1.0f;    ///< > 0
  int32_t top_k = 0;           ///< 0 = off
  float top_p = 1.0f;          ///< 1 = off
  float min_p = 0.0f;          ///< 0 = off
  float typical_p = 1.0f;      ///< 1 = off
  float epsilon_cutoff = 0.0f; ///< 0 = off
  float eta_cutoff = 0.0f;     ///< 0 = off
  float repetition_penalty = 1.0f;
  float encoder_repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  uint32_t no_repeat_ngram_size = 0; ///< 0 = off
  uint32_t min_new_tokens = 0;       ///< eos masked before that many new tokens.
  uint32_t min_length = 0;           ///< As above, the prompt counted in.
  std::vector<int32_t> eos_tokens;   ///< What the two minimums mask.
  std::vector<token_value> logit_bias;
  std::vector<std::vector<int32_t>> bad_words;
  std::vector<int32_t> suppress_tokens;
  uint32_t encoder_no_repeat_ngram_size = 0; ///< As no_repeat_ngram_size, for the prompt's n-grams.
  std::vector<int32_t> begin_suppress_tokens; ///< Masked for the first new token only.
  int32_t forced_bos_token = -1; ///< The only choice after a prompt of one token; -1 = off.
  std::vector<int32_t> forced_eos_tokens; ///< The only choice for the last token of max_length.
  uint32_t max_length = 0;   ///< Prompt counted in; 0 = unknown. For forced_eos_tokens.
  uint32_t decay_start = 0;  ///< eos grows likelier after that many new tokens ...
  float decay_factor = 1.0f; ///< ... by this factor per token; 1 = off.
  bool renormalize = false;  ///< Beams: scores are log-probabilities after all processors, too.
  friend bool operator==(const sampling_params&, const sampling_params&) = default;
};

/// Introduces a sequence to the shards: sent in the first step that runs it in an epoch, and again
/// after a preemption. It replaces whatever a shard knew under this id (empty block table).
struct sequence_start {
  sequence_id sequence{};
  uint32_t prompt_length = 0;   ///< history[0, prompt_length) is the prompt.
  std::vector<int32_t> history; ///< Prompt and the tokens generated so far.
  sampling_params sampling;
  /// Fixed at admission for dynamic rope scaling; 0 = the model's own base.
  double rope_base = 0;
};

/// What candidates are ranked by.
enum class candidate_scores : uint8_t {
  /// Processors, and warpers where it samples, applied to log_softmax(logits); not renormalised.
  /// What beam search adds up.
  beams,
  /// The softmax of what processors make of the logits: probabilities, for contrastive search.
  probabilities,
};

/// What a row's owner wants back.
struct row_wants {
  bool sample = false;          ///< Draw a token after the row's last position.
  bool prompt_logprobs = false; ///< Log-probability of each following prompt token.
  bool hidden_state = false;    ///< Last layer's hidden state of the last position.
  bool all_hidden = false;      ///< With hidden_state: of every position that the row feeds.
  bool embeddings = false;      ///< Instead of it what the first layer is fed; one stage only.
  uint16_t top_n = 0;           ///< So many most likely tokens beside the sampled one.
  uint16_t candidates = 0;      ///< Instead of drawing: so many of the best continuations.
  candidate_scores scores = candidate_scores::beams; ///< What makes them the best.
};

/// Stands in `step.tokens` for the token that the sequence's previous row draws, in an earlier step
/// that may still be running: the device knows it before the host does. Only as the one token of a
/// row, and only where one stage holds all layers.
inline constexpr int32_t pending_token = -1;

/// The tokens of one sequence that a step feeds to the model. Rows of a step lie end to end without
/// padding: row i's tokens are step.tokens[first_token, first_token + token_count).
struct step_row {
  sequence_id sequence{};
  uint32_t position = 0;    ///< Place of the first token in the sequence.
  uint32_t first_token = 0; ///< Into step.tokens.
  uint32_t token_count = 0; ///< > 1 only for a prompt.
  uint32_t first_block = 0; ///< Into step.blocks.
  uint32_t block_count = 0; ///< Blocks appended to the sequence's table before the row runs.
  row_wants wants;
};

/// Copy of one KV block into another, after all moves of the step and before any row runs.
struct block_copy {
  block_id from{};
  block_id to{};
};

/// One block that moves between the device and the host's swap area, before any row runs; those
/// that leave go first.
struct block_swap {
  block_id device{};
  block_id host{};
};

/// One pass of the model over the ready sequences; the same value goes to every shard.
struct step {
  epoch_id epoch{};
  step_id id{};
  std::vector<step_row> rows;
  std::vector<int32_t> tokens;  ///< [sum of token_count]; token ids, or `pending_token`.
  std::vector<block_id> blocks; ///< [sum of block_count], newly appended blocks, row by row.
  std::vector<sequence_start> starts;
  std::vector<block_copy> copies;
  std::vector<block_swap> swaps_in;
  std::vector<block_swap> swaps_out;
  std::vector<sequence_id> dropped; ///< Forgotten before the step runs; their ids never return.
};

/// What one row produced.
struct row_result {
  sequence_id sequence{};
  int32_t token = -1; ///< The drawn token; -1 when none was wanted.
  float logprob = 0;  ///< Of `token`, natural log of the softmax of the raw logits in fp32.
  std::vector<token_value>
      top; ///< wants.top_n most likely, descending, plus the drawn one if not among them.
  std::vector<token_value> prompt; ///< One per fed position that has a successor in the prompt:
                                   ///< that successor and its log-probability.
  std::vector<std::vector<token_value>> prompt_top; ///< As `prompt`, the top_n of each.
  /// wants.candidates, each with its wants.scores. Descending by that, or, for beams that sample,
  /// by `candidate_keys`.
  std::vector<token_value> candidates;
  std::vector<float> candidate_logprobs; ///< Of the raw logits, one per candidate.
  /// Beams that sample: score + Gumbel noise. The highest keys of several rows are a draw without
  /// replacement from all their continuations.
  std::vector<float> candidate_keys;
  std::vector<float> hidden; ///< [hidden], or [token_count, hidden], when wanted.
  ec fault = ec::none;       ///< Set: only this row failed (row fault).
  std::string fault_text;
};

/// The last shard's answer to a step; rows in the order of the step's rows.
struct step_result {
  epoch_id epoch{};
  step_id id{};
  std::vector<row_result> rows;
  uint64_t compute_ns = 0; ///< Time that the last shard computed.
  uint64_t device_ns = 0;  ///< That its device was busy with it, where it can tell; else 0.
  /// From the end of an earlier step, where the step waited for one, until it was on its device.
  uint64_t turnaround_ns = 0;
};

} // namespace troupe
