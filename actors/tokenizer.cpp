#include "troupe/actors/tokenizer.hpp"

#include <algorithm>

#include "troupe/config/guarded.hpp"

namespace troupe {

namespace {

/// What one message costs beside its text.
constexpr uint64_t message_bytes = 256;

/// Refuses a text that has too many tokens for certain, without encoding it.
caf::error check_length(const tokenizer& tok, std::string_view text, uint32_t context) {
  if (context == 0)
    return caf::none;
  auto least = tok.min_token_count(text);
  return least < context ? caf::error{}
                         : prompt_too_long("at least " + std::to_string(least), context);
}

/// The template's context: the request's JSON object, told whether to open an answer. What the
/// request itself says of it comes later in the text and so prevails.
caf::expected<std::string> template_context(const prompt& p, bool open_answer) {
  auto brace = p.text.find_first_not_of(" \t\r\n");
  if (brace == std::string::npos || p.text[brace] != '{')
    return caf::make_error(ec::invalid_request,
                           std::string{"a chat prompt must be a JSON object with messages"});
  auto rest = p.text.find_first_not_of(" \t\r\n", brace + 1);
  bool is_empty = rest != std::string::npos && p.text[rest] == '}';
  std::string result = "{\"add_generation_prompt\":";
  result += open_answer ? "true" : "false";
  if (!is_empty)
    result += ',';
  result.append(p.text, brace + 1);
  return result;
}

caf::expected<std::string> render(const chat_template& chat, const prompt& p, bool open_answer) {
  auto context = template_context(p, open_answer);
  if (!context)
    return std::move(context.error());
  return chat.render(*context);
}

/// The end of a text of which only the last `tokens` tokens are kept, so that truncating a huge
/// text costs no more than the context is worth. It begins behind a blank, well before the first
/// token that is kept; the whole text if no such place is certain.
std::string_view tail_of(const tokenizer& tok, std::string_view text, uint32_t tokens) {
  auto wanted = (static_cast<size_t>(tokens) + 256) * tok.max_token_bytes();
  if (text.size() / 2 <= wanted)
    return text;
  auto start = text.find_first_of(" \n", text.size() - 2 * wanted);
  if (start == std::string_view::npos || text.size() - start < wanted)
    return text;
  auto tail = text.substr(start);
  return tok.min_token_count(tail) >= tokens ? tail : text;
}

} // namespace

caf::error prompt_too_long(std::string_view tokens, uint32_t context) {
  return caf::make_error(ec::prompt_too_long, "Input prompt (" + std::string{tokens} +
                                                  " tokens) is too long and exceeds limit of " +
                                                  std::to_string(context));
}

uint64_t backlog_of(const encode_job& job) {
  return message_bytes + job.input.text.size() + job.input.cached_prefix.size();
}

uint64_t backlog_of(const detokenize_request& job) {
  return message_bytes + job.tokens.size() * sizeof(int32_t);
}

const tokenizer_actor& tokenizer_pool::pick(uint64_t bytes) const {
  // The search starts at another member each time, so that idle ones take turns.
  auto first = turn_.fetch_add(1, std::memory_order_relaxed) % members_.size();
  auto best = first;
  for (size_t i = 1; i < members_.size(); ++i) {
    auto at = (first + i) % members_.size();
    if (members_[at].bytes->load(std::memory_order_relaxed) <
        members_[best].bytes->load(std::memory_order_relaxed))
      best = at;
  }
  members_[best].bytes->fetch_add(bytes, std::memory_order_relaxed);
  return members_[best].actor;
}

caf::expected<std::string> render_prompt(const text_tools& tools, const prompt& p) {
  if (p.kind != prompt_kind::chat)
    return p.text;
  auto chat = tools.chat;
  if (!p.chat_template.empty()) {
    if (!tools.trust_request_template)
      return caf::make_error(ec::invalid_request,
                             std::string{"chat_template is not accepted from requests: start the "
                                         "server with --trust-request-chat-template if all clients "
                                         "are trusted"});
    auto own = chat_template::compile(p.chat_template, *tools.tok);
    if (!own)
      return std::move(own.error());
    chat = std::move(*own);
  }
  if (!chat)
    return caf::make_error(ec::template_failed,
                           std::string{"this model has no chat template: send a plain prompt, or "
                                       "start the server with --chat-template FILE"});
  auto text = render(*chat, p, p.add_generation_prompt);
  if (!text && p.add_generation_prompt && text.error() == caf::make_error(ec::template_failed)) {
    if (auto plain = render(*chat, p, false))
      return plain;
  }
  return text;
}

caf::expected<encoded_prompt> encode_prompt(const text_tools& tools, const encode_job& job) {
  const auto& p = job.input;
  encoded_prompt result;
  bool add_special = p.add_special_tokens && p.kind == prompt_kind::text;
  if (!p.cached_prefix.empty()) {
    if (auto err = check_length(*tools.tok, p.cached_prefix, job.context))
      return err;
    auto prefix = tools.tok->encode(p.cached_prefix, add_special);
    if (!prefix)
      return std::move(prefix.error());
    result.tokens = std::move(*prefix);
    add_special = false;
  }
  if (p.kind == prompt_kind::tokens) {
    result.tokens.insert(result.tokens.end(), p.tokens.begin(), p.tokens.end());
  } else {
    auto text = render_prompt(tools, p);
    if (!text)
      return std::move(text.error());
    std::string_view kept = *text;
    if (job.truncate > 0)
      kept = tail_of(*tools.tok, kept, job.truncate);
    else if (auto err = check_length(*tools.tok, kept, job.context))
      return err;
    auto ids = tools.tok->encode(kept, add_special);
    if (!ids)
      return std::move(ids.error());
    if (result.tokens.empty())
      result.tokens = std::move(*ids);
    else
      result.tokens.insert(result.tokens.end(), ids->begin(), ids->end());
    result.text = std::move(*text);
  }
  if (job.truncate > 0 && result.tokens.size() > job.truncate)
    result.tokens.erase(result.tokens.begin(), result.tokens.end() - job.truncate);
  return result;
}

tokenizer_actor::behavior_type
tokenizer_behavior(tokenizer_actor::stateful_pointer<tokenizer_state>, text_tools_ptr tools,
                   tokenizer_pool::backlog backlog, telemetry::metrics_ptr metrics) {
  auto done = [backlog, metrics](uint64_t bytes) {
    backlog->fetch_sub(bytes, std::memory_order_relaxed);
    metrics->handled(telemetry::actor_kind::tokenizer);
  };
  return {
      [=](const encode_job& job) -> caf::result<encoded_prompt> {
        auto answer = guarded(ec::internal, [&] { return encode_prompt(*tools, job); });
        done(backlog_of(job));
        return answer;
      },
      [=](const detokenize_request& job) -> caf::result<std::string> {
        auto answer = guarded(ec::internal, [&] { return tools->tok->decode(job.tokens, false); });
        done(backlog_of(job));
        return answer;
      },
  };
}

} // namespace troupe
