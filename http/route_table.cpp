#include "troupe/http/route_table.hpp"

#include <array>

namespace troupe::http {

namespace {

constexpr auto table = std::to_array<route_entry>({
    // clang-format off
  {"/ping", "GET", access::open, "health", "Health of every model", "", "ModelStates"},
  {"/health", "GET", access::open, "health", "200 as soon as a model can answer, else 503", "", ""},
  {"/info", "GET", access::guarded, "health", "Facts about a model, as TGI tells them", "", "Info", "model_name"},
  {"/metrics", "GET", access::guarded, "health", "Prometheus metrics", "", "text/plain", "name[]"},
  {"/server/metrics", "GET", access::guarded, "health", "Prometheus metrics", "", "text/plain", "name[]"},
  {"/openapi.json", "GET", access::guarded, "health", "This description", "", "Object"},

  {"/invocations", "POST", access::guarded, "lmi", "Generates text, or answers a chat when the body has messages", "Invocation", "Generation application/jsonlines text/event-stream text/csv", "model_name model_version"},
  {"/predictions/{model}", "POST", access::guarded, "lmi", "The same, by the model that the path names", "Invocation", "Generation application/jsonlines text/event-stream text/csv", "model_version"},
  {"/predictions/{model}/{version}", "POST", access::guarded, "lmi", "The same, by one version of it", "Invocation", "Generation application/jsonlines text/event-stream text/csv"},
  {"/models/{model}/invoke", "POST", access::guarded, "lmi", "The same, under another path", "Invocation", "Generation application/jsonlines text/event-stream text/csv", "model_version"},

  {"/models", "GET POST", access::guarded, "management", "Lists models, or registers one", "", "ModelPage|Status", "url model_name model_version engine device job_queue_size batch_size max_batch_delay max_idle_time min_worker max_worker synchronous limit next_page_token"},
  {"/models/{model}", "GET PUT DELETE", access::guarded, "management", "Describes, scales or unregisters a model", "", "Workflows|Status|Status", "min_worker max_worker device"},
  {"/models/{model}/{version}", "GET PUT DELETE", access::guarded, "management", "The same for one version of it", "", "Workflows|Status|Status", "min_worker max_worker device"},
  {"/workflows", "GET POST", access::guarded, "management", "Lists workflows, each of one model", "", "WorkflowPage|Status", "limit next_page_token"},
  {"/workflows/{model}", "GET PUT DELETE", access::guarded, "management", "As /models/{model}", "", "Workflows|Status|Status", "min_worker max_worker device"},
  {"/workflows/{model}/{version}", "GET PUT DELETE", access::guarded, "management", "As /models/{model}/{version}", "", "Workflows|Status|Status", "min_worker max_worker device"},
  {"/server/logging", "POST", access::guarded, "management", "Sets the least severe log line that is written", "", "Status", "level"},

  {"/v1/chat/completions", "POST", access::guarded, "openai", "Answers a chat", "ChatRequest", "ChatCompletion text/event-stream", "model_name model_version"},
  {"/v1/completions", "POST", access::guarded, "openai", "Continues texts", "CompletionRequest", "Completion text/event-stream", "model_name model_version"},
  {"/v1/models", "GET", access::guarded, "openai", "What is served", "", "ModelList"},
  {"/v1/models/{model}*", "GET", access::guarded, "openai", "One of the models that are served", "", "Model"},
  {"/tokenize", "POST", access::guarded, "tokens", "Token ids of a text or a chat", "TokenizeRequest", "Tokens", "model_name model_version"},
  {"/detokenize", "POST", access::guarded, "tokens", "Text of token ids", "DetokenizeRequest", "Prompt", "model_name model_version"},

  {"/generate", "POST", access::guarded, "tgi", "Generates text, as TGI answers", "TgiRequest", "TgiAnswer", "model_name model_version"},
  {"/generate_stream", "POST", access::guarded, "tgi", "Generates text as a stream of events, as TGI does", "TgiRequest", "text/event-stream", "model_name model_version"},
  {"/", "POST", access::guarded, "tgi", "Generates text, as a stream when the body says so", "TgiCompatRequest", "TgiAnswers text/event-stream", "model_name model_version"},
    // clang-format on
});

/// Takes the first part of a path, without its slash.
std::string_view next_part(std::string_view& path) {
  if (!path.empty())
    path.remove_prefix(1);
  auto part = path.substr(0, path.find('/'));
  path.remove_prefix(part.size());
  return part;
}

bool matches(std::string_view pattern, std::string_view path) {
  while (!pattern.empty()) {
    auto wanted = next_part(pattern);
    if (wanted.ends_with("}*"))
      return path.size() > 1;
    auto given = next_part(path);
    if (wanted.starts_with('{') ? given.empty() : given != wanted)
      return false;
  }
  return path.empty() || path == "/";
}

} // namespace

std::span<const route_entry> route_table() {
  return table;
}

const route_entry* find_route(std::string_view path) {
  for (const auto& entry : table)
    if (matches(entry.path, path))
      return &entry;
  return nullptr;
}

} // namespace troupe::http
