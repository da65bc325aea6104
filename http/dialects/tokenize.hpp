#pragma once

#include "troupe/http/dialects/dialect.hpp"
#include "troupe/http/message.hpp"

/// POST /tokenize and /detokenize in vLLM's shapes.
namespace troupe::http {

/// `prompt`, or `messages` with `tools`, `chat_template_kwargs`, `chat_template` (only when the
/// server trusts requests' templates), `add_generation_prompt`; `add_special_tokens`.
std::variant<tokenize_request, problem> parse_tokenize(const json::value& body,
                                                       const job_context& context);

/// `tokens`
std::variant<detokenize_request, problem> parse_detokenize(const json::value& body,
                                                           const job_context& context);

/// {"tokens": [...], "count", "max_model_len"}
reply tokenize_reply(const tokenize_answer& answer);

/// {"prompt": text}
reply detokenize_reply(std::string_view text);

} // namespace troupe::http
