#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "troupe/actors/generation.hpp"
#include "troupe/actors/text_assembler.hpp"
#include "troupe/models/step.hpp"
#include "troupe/models/tokenizer/stream_decoder.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe {

/// What all choices of a request have in common.
struct choice_rules {
  tokenizer_ptr tok;
  std::shared_ptr<const text_rules> text;
  std::vector<int32_t> eos_tokens;  ///< Of the model; empty when they are to be ignored.
  std::vector<int32_t> stop_tokens; ///< Of the request.
  uint32_t max_new_tokens = 1;
  uint16_t top_n = 0;
  bool skip_special_tokens = true;
  bool token_bytes = false;
};

/// One choice of a request while it is generated: turns drawn tokens into events and knows when the
/// choice ends. A plain class; one thread at a time.
class choice {
public:
  choice(std::shared_ptr<const choice_rules> rules, uint32_t index)
      : rules_(std::move(rules)), index_(index), decoder_(rules_->tok, rules_->skip_special_tokens),
        text_(rules_->text) {}

  uint32_t index() const { return index_; }
  bool ended() const { return reason_ != finish_reason::none; }
  finish_reason reason() const { return reason_; }
  /// A stop string was matched, which only the text shows.
  bool found_stop() const { return text_.stopped(); }
  uint32_t generated_tokens() const { return generated_; }
  double cumulative_logprob() const { return cumulative_; }

  /// Takes the next drawn token. Of several reasons to end, eos goes before a stop string or stop
  /// token, and that before the length. @pre !ended()
  token_event add(const row_result& row);

  /// Ends a choice that its tokens did not end. @pre !ended()
  void end(finish_reason reason) { reason_ = reason; }

  /// The closing event. `tail` holds what no token carried. Call it once. @pre ended()
  choice_event close();

private:
  finish_reason reason_for(int32_t token) const;

  std::shared_ptr<const choice_rules> rules_;
  uint32_t index_ = 0;
  stream_decoder decoder_;
  text_assembler text_;
  finish_reason reason_ = finish_reason::none;
  bool released_ = false; ///< All text was shown.
  uint32_t generated_ = 0;
  double cumulative_ = 0;
};

/// A token as top lists and prompts show it: its own text, whatever stands around it.
token_text describe_token(const tokenizer& tok, token_value token, bool bytes);

/// As `describe_token` for the most likely tokens of a position: the first `top_n`, and the drawn
/// one if it is not among them.
std::vector<token_text> describe_top(const tokenizer& tok, const std::vector<token_value>& top,
                                     uint16_t top_n, int32_t drawn, bool bytes);

} // namespace troupe
