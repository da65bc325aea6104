#include "troupe/actors/request_plan.hpp"

#include <algorithm>
#include <limits>

#include "troupe/actors/tokenizer.hpp"
#include "troupe/models/sampling/sampler.hpp"

namespace troupe {

namespace {

constexpr uint32_t event_bytes = 256;

caf::error invalid(std::string text) {
  return caf::make_error(ec::invalid_request, std::move(text));
}

uint32_t weigh(const token_text& token) {
  return static_cast<uint32_t>(64 + token.text.size() + token.bytes.size());
}

uint32_t weigh(const std::vector<token_text>& tokens) {
  uint32_t sum = 0;
  for (const auto& token : tokens)
    sum += weigh(token);
  return sum;
}

} // namespace

caf::error check_search(const generation_params& p) {
  const auto& s = p.search;
  if (s.kind == search_kind::none)
    return {};
  const bool beams = s.kind == search_kind::beams;
  if (s.lanes < 2 || s.lanes > max_lanes)
    return invalid((beams ? "num_beams must be 2 to " : "top_k must be 2 to ") +
                   std::to_string(max_lanes) + (beams ? "" : " for contrastive search"));
  if (s.groups == 0 || (beams && s.lanes % s.groups != 0))
    return invalid("the number of beam groups must divide num_beams (" + std::to_string(s.lanes) +
                   ")");
  if (beams && p.stream)
    return invalid("num_beams above 1 cannot be streamed: the best are known only at the end");
  if (p.best_of > p.n)
    return invalid("best_of above n goes with sampling, not with beams or contrastive search");
  if (p.n > (beams ? s.lanes : 1))
    return invalid(beams ? "n must be at most num_beams (" + std::to_string(s.lanes) + ")"
                         : std::string{"contrastive search returns one sequence: n must be 1"});
  return {};
}

caf::error check_request(const generation_request& request, const models::model_info& info) {
  const auto& p = request.params;
  if (p.max_new_tokens == 0 || p.max_new_tokens < -1)
    return invalid("max_new_tokens must be at least 1, or -1 for as many as the context holds");
  if (p.n == 0 || p.n > max_choices)
    return invalid("n must be 1 to " + std::to_string(max_choices));
  if (p.best_of < p.n || p.best_of > max_choices)
    return invalid("best_of must be n to " + std::to_string(max_choices));
  if (p.stream && p.best_of > p.n)
    return invalid("best_of above n cannot be streamed: the best are known only at the end");
  if (auto err = check_search(p))
    return err;
  if (info.context > 0 && p.truncate > info.context)
    return invalid("truncate must be at most the context of " + std::to_string(info.context) +
                   ", got " + std::to_string(p.truncate));
  size_t stop_bytes = 0;
  for (const auto& stop : p.stop) {
    if (stop.empty())
      return invalid("stop must not hold empty strings");
    stop_bytes += stop.size();
  }
  if (stop_bytes > max_stop_bytes)
    return invalid("stop strings must not exceed " + std::to_string(max_stop_bytes) + " bytes");
  if (request.input.kind == prompt_kind::tokens && request.input.tokens.empty() &&
      request.input.cached_prefix.empty())
    return invalid("the prompt is empty: at least one token is needed");
  return models::check_sampling(p.sampling, info.vocabulary);
}

namespace {

const std::vector<int32_t>& ends_of(const generation_params& p, const models::model_info& info) {
  return p.eos_tokens.empty() ? info.eos_tokens : p.eos_tokens;
}

} // namespace

caf::error check_length(const generation_params& params, size_t prompt_tokens) {
  if (params.max_length == 0 || prompt_tokens < params.max_length)
    return {};
  return invalid("max_length is " + std::to_string(params.max_length) +
                 ", but the prompt alone has " + std::to_string(prompt_tokens) +
                 " tokens: raise it, or use max_new_tokens");
}

caf::error check_prompt(const std::vector<int32_t>& tokens, const models::model_info& info) {
  if (tokens.empty())
    return invalid("the prompt is empty: at least one token is needed");
  if (info.context > 0 && tokens.size() >= info.context)
    return prompt_too_long(std::to_string(tokens.size()), info.context);
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= info.vocabulary)
      return invalid("prompt token " + std::to_string(tokens[i]) + " at position " +
                     std::to_string(i) + " is outside of the model's vocabulary of " +
                     std::to_string(info.vocabulary));
  return caf::none;
}

uint32_t room_for(const generation_params& params, size_t prompt_tokens,
                  const models::model_info& info) {
  // A model without positions has no limit of its own.
  int64_t context = info.context > 0 ? info.context : std::numeric_limits<int32_t>::max();
  if (params.max_length > 0)
    context = std::min<int64_t>(context, params.max_length);
  auto room = context - static_cast<int64_t>(prompt_tokens);
  return static_cast<uint32_t>(params.max_new_tokens < 0 ? room
                                                         : std::min(params.max_new_tokens, room));
}

std::shared_ptr<const choice_rules> make_rules(const generation_params& params, tokenizer_ptr tok,
                                               const models::model_info& info,
                                               uint32_t max_new_tokens) {
  auto text = std::make_shared<text_rules>();
  text->stops = stop_matcher{params.stop};
  text->include_stop = params.include_stop;
  text->hold_back = params.stream;
  auto rules = std::make_shared<choice_rules>();
  rules->tok = std::move(tok);
  rules->text = std::move(text);
  if (!params.ignore_eos)
    rules->eos_tokens = ends_of(params, info);
  rules->stop_tokens = params.stop_tokens;
  rules->max_new_tokens = max_new_tokens;
  rules->top_n = params.top_n;
  rules->skip_special_tokens = params.skip_special_tokens;
  rules->token_bytes = params.token_bytes;
  return rules;
}

new_sequence make_sequence(const generation_request& request, const models::model_info& info,
                           std::vector<int32_t> prompt, uint32_t max_new_tokens, uint32_t index) {
  const auto& p = request.params;
  new_sequence s;
  s.max_new_tokens = max_new_tokens;
  s.sampling = p.sampling;
  s.sampling.sequence_index = index;
  s.sampling.eos_tokens = ends_of(p, info);
  s.sampling.max_length = static_cast<uint32_t>(prompt.size()) + max_new_tokens;
  s.search = p.search;
  s.search.returned = p.n;
  s.stop_tokens = p.stop_tokens;
  if (!p.ignore_eos)
    s.stop_tokens.insert(s.stop_tokens.end(), s.sampling.eos_tokens.begin(),
                         s.sampling.eos_tokens.end());
  s.wants.sample = true;
  s.wants.top_n = p.top_n;
  // The prompt is the same for all choices, so one of them tells about it.
  if (index == 0 && p.prompt_logprobs) {
    s.wants.prompt_logprobs = true;
    s.wants.top_n = std::max(p.top_n, p.prompt_top_n);
  }
  s.priority = request.priority;
  s.turn = request.turn;
  s.slot_timeout_ms = request.slot_timeout_ms;
  if (info.rope_base_for)
    s.rope_base = info.rope_base_for(static_cast<uint32_t>(prompt.size()) + max_new_tokens);
  s.prompt = std::move(prompt);
  return s;
}

prompt_event describe_prompt(const generation_params& params, const tokenizer& tok,
                             const std::vector<int32_t>& prompt, const row_result& first) {
  prompt_event event;
  event.token_count = static_cast<uint32_t>(prompt.size());
  if (!params.prompt_logprobs)
    return event;
  event.tokens.reserve(prompt.size());
  for (size_t i = 0; i < prompt.size(); ++i) {
    bool known = i > 0 && i <= first.prompt.size();
    auto token = describe_token(tok, {prompt[i], known ? first.prompt[i - 1].value : 0.0f},
                                params.token_bytes);
    token.has_logprob = known;
    event.tokens.push_back(std::move(token));
    if (params.prompt_top_n == 0)
      continue;
    if (i > 0 && i <= first.prompt_top.size())
      event.top.push_back(describe_top(tok, first.prompt_top[i - 1], params.prompt_top_n, prompt[i],
                                       params.token_bytes));
    else
      event.top.emplace_back();
  }
  return event;
}

uint32_t weigh(const event_batch& batch) {
  uint32_t sum = 0;
  for (const auto& event : batch.prompt) {
    sum += event_bytes + weigh(event.tokens);
    for (const auto& top : event.top)
      sum += weigh(top);
  }
  for (const auto& event : batch.tokens)
    sum += event_bytes + weigh(event.top) +
           static_cast<uint32_t>(event.token.text.size() + event.token.bytes.size());
  for (const auto& event : batch.ends)
    sum += event_bytes + static_cast<uint32_t>(event.tail.size() + event.generated_text.size());
  return sum;
}

} // namespace troupe
