#include "troupe/actors/choice.hpp"

#include <algorithm>

namespace troupe {

namespace {

bool holds(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

} // namespace

token_text describe_token(const tokenizer& tok, token_value token, bool bytes) {
  token_text result;
  result.id = token.token;
  result.text = tok.token_text(token.token);
  if (bytes)
    result.bytes = tok.token_bytes(token.token);
  result.logprob = token.value;
  result.special = tok.is_special(token.token);
  return result;
}

std::vector<token_text> describe_top(const tokenizer& tok, const std::vector<token_value>& top,
                                     uint16_t top_n, int32_t drawn, bool bytes) {
  std::vector<token_text> result;
  if (top_n == 0)
    return result;
  result.reserve(top_n + 1u);
  bool seen = false;
  for (size_t i = 0; i < top.size(); ++i) {
    // The drawn token stands after the others when it is not one of the most likely.
    if (i >= top_n && (seen || top[i].token != drawn))
      continue;
    seen = seen || top[i].token == drawn;
    result.push_back(describe_token(tok, top[i], bytes));
  }
  return result;
}

finish_reason choice::reason_for(int32_t token) const {
  if (holds(rules_->eos_tokens, token))
    return finish_reason::eos_token;
  if (holds(rules_->stop_tokens, token))
    return finish_reason::stop_sequence;
  return generated_ >= rules_->max_new_tokens ? finish_reason::length : finish_reason::none;
}

token_event choice::add(const row_result& row) {
  ++generated_;
  cumulative_ += row.logprob;
  reason_ = reason_for(row.token);

  token_event event;
  event.choice = index_;
  event.token.id = row.token;
  event.token.logprob = row.logprob;
  event.token.special = rules_->tok->is_special(row.token);
  if (rules_->token_bytes)
    event.token.bytes = rules_->tok->token_bytes(row.token);
  event.top = describe_top(*rules_->tok, row.top, rules_->top_n, row.token, rules_->token_bytes);

  // A stop token's text never shows, that of eos only together with other special tokens.
  bool silent = reason_ == finish_reason::stop_sequence ||
                (reason_ == finish_reason::eos_token && rules_->skip_special_tokens);
  if (!silent)
    text_.add(decoder_.push(row.token), event.token.text);
  if (reason_ != finish_reason::none && !text_.stopped())
    text_.close(decoder_.finish(), event.token.text);
  if (text_.stopped() && reason_ != finish_reason::eos_token)
    reason_ = finish_reason::stop_sequence;
  released_ = ended();
  return event;
}

choice_event choice::close() {
  choice_event event;
  event.choice = index_;
  if (!released_)
    text_.close(decoder_.finish(), event.tail);
  if (text_.stopped() && reason_ == finish_reason::length)
    reason_ = finish_reason::stop_sequence;
  event.reason = reason_;
  event.generated_tokens = generated_;
  event.cumulative_logprob = cumulative_;
  event.generated_text = text_.take_text();
  return event;
}

} // namespace troupe
