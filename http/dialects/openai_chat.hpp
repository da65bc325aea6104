#pragma once

#include "troupe/http/dialects/openai.hpp"

/// Chat completions, on /v1/chat/completions and on every LMI route whose body has "messages"
/// (contract http.md §5.1 to §5.4).
namespace troupe::http {

parsed_job parse_chat(const json::value& body, const job_context& context);

/// The conversation as the template wants it: text parts joined with newlines, keys other than role
/// and content dropped unless `keep_all`.
/// @returns the problem, or the messages.
std::variant<json::array, problem> read_messages(const json::value& messages, bool keep_all);

std::unique_ptr<answer_writer> make_chat_writer(openai_format format);

} // namespace troupe::http
