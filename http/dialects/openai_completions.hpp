#pragma once

#include "troupe/http/dialects/openai.hpp"

/// Text completions: /v1/completions (contract http.md §5.6). A prompt is text or token ids, or an
/// array of either; choice i of prompt p has the index p * n + i.
namespace troupe::http {

parsed_job parse_completions(const json::value& body, const job_context& context);

/// Prompts that one request may bring.
inline constexpr size_t most_prompts = 2048;

std::unique_ptr<answer_writer> make_completions_writer(openai_format format);

} // namespace troupe::http
