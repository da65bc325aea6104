#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "troupe/actors/generation.hpp"

namespace troupe::http {

/// One sequence of an answer that is written when all of it is there.
struct gathered_choice {
  std::vector<token_text> tokens;
  std::vector<std::vector<token_text>> top; ///< Alternatives, by token.
  choice_event end;
};

/// What an answer of one prompt gathers until it is complete. Used by one thread at a time.
class gathered_answer {
public:
  explicit gathered_answer(uint32_t choices) : choices_(std::max(choices, 1u)) {}

  /// @param tokens Whether tokens and their alternatives will be shown.
  void take(event_batch& events, bool tokens) {
    if (!events.prompt.empty())
      prefill_ = std::move(events.prompt.front().tokens);
    for (auto& event : events.tokens)
      if (tokens && event.choice < choices_.size()) {
        choices_[event.choice].tokens.push_back(std::move(event.token));
        choices_[event.choice].top.push_back(std::move(event.top));
      }
    for (auto& end : events.ends)
      if (end.choice < choices_.size())
        choices_[end.choice].end = std::move(end);
  }

  /// A search may find fewer than it was asked for.
  void drop_missing() {
    while (choices_.size() > 1 && choices_.back().end.reason == finish_reason::none)
      choices_.pop_back();
  }

  /// The most likely one first.
  void rank() {
    std::stable_sort(choices_.begin(), choices_.end(),
                     [](const gathered_choice& a, const gathered_choice& b) {
                       return a.end.cumulative_logprob > b.end.cumulative_logprob;
                     });
  }

  const std::vector<token_text>& prefill() const { return prefill_; }
  const std::vector<gathered_choice>& choices() const { return choices_; }

private:
  std::vector<token_text> prefill_;
  std::vector<gathered_choice> choices_;
};

} // namespace troupe::http
