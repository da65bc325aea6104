#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/step.hpp"

/// Choosing the next token of one sequence from its row of logits. Operations and their order are
/// those of transformers 5.17 `GenerationMixin._get_logits_processor` (generation/utils.py,
/// generation/logits_process.py): bias, penalties, masks, then, only when sampling, temperature,
/// top_k, top_p, min_p, typical_p, epsilon and eta. Everything is fp32 on the CPU, a function of
/// one row only: neighbours, slots, batch sizes and threads change no bit.
namespace troupe::models {

/// What sampling remembers of one sequence: its parameters, its tokens, and how often each
/// occurred. All of it can be rebuilt from `sequence_start`, so a preempted or replayed sequence
/// goes on as if nothing had happened. One thread at a time.
class sequence_sampler {
public:
  /// Takes over parameters and history (prompt and the tokens generated so far).
  explicit sequence_sampler(const sequence_start& start);

  /// Appends one token to the history.
  void push_token(int32_t token);

  /// Tells the tokens that a row feeds at [position, position + tokens.size()). Those that are
  /// known already change nothing; a different token replaces what was known from there on; new
  /// ones are appended. So a stage may simply call this for each row before it samples. A gap
  /// between the known history and `position` is remembered and makes the next draw a row fault.
  void feed(uint32_t position, std::span<const int32_t> tokens);

  sequence_id id() const { return id_; }
  const sampling_params& params() const { return params_; }
  std::span<const int32_t> history() const { return history_; }
  uint32_t prompt_length() const { return prompt_length_; }
  bool has_gap() const { return gap_; }

  /// A token of the history and how often the prompt and the answer hold it.
  struct occurrence {
    int32_t token = -1;
    uint32_t in_prompt = 0;
    uint32_t in_output = 0;
  };
  /// Each token of the history once, in the order of first occurrence; empty when no penalty asks.
  std::span<const occurrence> occurrences() const { return occurrences_; }

private:
  void count(int32_t token, bool in_prompt);
  void recount();

  sequence_id id_{};
  uint32_t prompt_length_ = 0;
  bool counting_ = false; ///< A penalty needs occurrences_.
  bool gap_ = false;
  sampling_params params_;
  std::vector<int32_t> history_;
  std::vector<occurrence> occurrences_;
  std::unordered_map<int32_t, size_t> places_; ///< Token -> its place in occurrences_.
};

/// Draws the token that follows the row's last position, and fills what else `wants` asks of it:
/// `token`, `logprob`, `top`, and `candidates`. (`prompt*` and `hidden` are not this function's.)
///
/// - Greedy: argmax of the processed logits, ties to the lowest id.
/// - Sampling: one draw by inverse CDF over the kept tokens in the order of their ids, with
///   u = philox_uniform(seed, sequence_index, position).
/// - `logprob` and `top` are of the raw logits: log_softmax in fp32 before any processor, natural
/// log,
///   <= 0 and finite (an impossible token reads as the lowest float). `top` is sorted descending,
///   ties by id, and ends with the drawn token when that is not among the first top_n.
/// - `wants.candidates` > 0: nothing is drawn (token stays -1); the highest `wants.scores`, as
///   transformers' beam search and contrastive search have them. Masked tokens are left out, so
///   there may be fewer than asked for. Beams that sample get the highest keys: score + Gumbel
///   noise that depends on seed, position, token and the tokens generated so far, so that each of
///   several rows has its own.
///
/// @param logits   Raw, [vocabulary], of the row's last position.
/// @param sampler  Its history must reach up to `position` (exclusive); it is not changed.
/// @param position Place in the sequence of the token that is drawn: the last fed position + 1.
/// @returns A row with `fault` = ec::row_fault and a text when the logits hold NaN or +Inf, when
/// every
///          token is masked, or when history and position disagree. Never throws for bad numbers.
/// Threading: any thread; scratch is kept per thread, so the plain greedy path allocates nothing.
row_result sample_row(std::span<const float> logits, const sequence_sampler& sampler,
                      const row_wants& wants, uint32_t position);

/// Moves what `sample_row` filled to a result that may hold more already.
void take_drawn(row_result&& drawn, row_result& into);

/// Appends to `into.prompt` the log-probability of `target` given a raw row of logits, and to
/// `into.prompt_top` the `top_n` most likely tokens (with `target` if it is not among them; an
/// empty list when top_n is 0). Sets `into.fault` when the row holds NaN or +Inf or `target` is no
/// token.
void add_prompt_logprob(std::span<const float> logits, int32_t target, uint16_t top_n,
                        row_result& into);

/// The distribution that `sample_row` draws from: tokens of probability > 0 by ascending id, the
/// one greedy token with 1 when params().sample is false. For tests and for strategies that need
/// more than a draw. Errors: ec::row_fault, as above.
caf::expected<std::vector<token_value>> next_token_distribution(std::span<const float> logits,
                                                                const sequence_sampler& sampler,
                                                                uint32_t position);

/// Whether sampling can work with these parameters on a vocabulary of that size.
/// Errors: ec::invalid_request; the sentence begins with the parameter's name.
caf::error check_sampling(const sampling_params& params, uint32_t vocabulary);

} // namespace troupe::models
