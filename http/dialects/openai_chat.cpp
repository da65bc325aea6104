#include "troupe/http/dialects/openai_chat.hpp"

#include "troupe/http/dialects/lmi.hpp"
#include "troupe/http/dialects/sampling.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

constexpr int64_t lmi_new_tokens = 30;
constexpr int64_t most_top_logprobs = 20;

problem in_message(size_t index, std::string_view what) {
  return {"messages", "messages[" + std::to_string(index) + "]" + std::string{what}};
}

/// Text parts joined with newlines.
std::variant<std::string, problem> join_parts(const json::array& parts, size_t index) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    auto at = ".content[" + std::to_string(i) + "]";
    auto* type = parts[i].find("type");
    auto* kind = type ? type->as_string() : nullptr;
    if (!kind)
      return in_message(index, at + " needs a string \"type\"");
    if (*kind != "text")
      return in_message(index, at + ": parts of type " + *kind + " are not supported, only text");
    auto* text = parts[i].find("text");
    if (!text || !text->as_string())
      return in_message(index, at + " needs a string \"text\"");
    if (i > 0)
      out += '\n';
    out += *text->as_string();
  }
  return out;
}

std::variant<std::string, problem> read_content(const json::value& message, size_t index,
                                                std::string_view role) {
  auto* content = message.find("content");
  if (content && content->as_string())
    return *content->as_string();
  if (content && content->as_array())
    return join_parts(*content->as_array(), index);
  // An assistant that only called tools has none.
  if ((!content || content->is_null()) && role == "assistant")
    return std::string{};
  return in_message(index, ".content must be a string or an array of parts");
}

void read_limit(field_reader& from, const job_context& context, generation_params& to) {
  range<int64_t> positive{.low = 0, .high = INT32_MAX, .low_excluded = true};
  auto plain = from.integer({"max_tokens"}, positive);
  auto newer = from.integer({"max_completion_tokens"}, positive);
  to.max_new_tokens = newer.value_or(plain.value_or(context.v1_route ? -1 : lmi_new_tokens));
}

void read_logprobs(field_reader& from, bool v1_route, generation_params& to,
                   openai_format& format) {
  auto wanted = from.boolean({"logprobs"}).value_or(false);
  auto top = from.integer({"top_logprobs"}, {.low = 0, .high = most_top_logprobs});
  if (!wanted)
    return;
  to.top_n = static_cast<uint16_t>(top.value_or(0));
  format.logprobs = v1_route || to.top_n > 0;
  to.token_bytes = format.logprobs;
}

stream_frame read_frame(field_reader& from, const job_context& context, bool stream,
                        std::vector<std::string>& warnings) {
  if (context.v1_route)
    return stream ? stream_frame::sse : stream_frame::none;
  static const json::value none{json::object{}};
  auto* given = from.raw({"parameters"});
  field_reader parameters{given && given->as_object() ? *given : none};
  auto wanted = parameters.string({"output_formatter"}).value_or("");
  auto framing = choose_framing(wanted, context.settings.output_formatter, stream, false, warnings);
  if (framing == lmi_format::framing::json)
    return stream_frame::none;
  return framing == lmi_format::framing::sse || (stream && context.accepts_sse)
             ? stream_frame::sse
             : stream_frame::jsonlines;
}

bool read_include_usage(field_reader& from) {
  auto* given = from.raw({"stream_options"});
  if (!given)
    return false;
  if (!given->as_object()) {
    from.fail("stream_options", "stream_options must be an object");
    return false;
  }
  field_reader options{*given};
  auto wanted = options.boolean({"include_usage"}).value_or(false);
  if (options.failed())
    from.fail("stream_options", "stream_options." + options.failed()->message);
  return wanted;
}

/// {"messages": [...], ...kwargs} for the template.
void read_conversation(field_reader& from, const job_context& context, prompt& to) {
  auto* given = from.raw({"messages"});
  if (!given)
    return from.fail("messages", "Invalid Request Property: 'messages'");
  auto messages = read_messages(*given, false);
  if (auto* why = std::get_if<problem>(&messages))
    return from.fail(why->parameter, why->message);
  json::object conversation;
  conversation.emplace_back("messages", std::move(std::get<json::array>(messages)));
  if (auto* kwargs = from.raw({"chat_template_kwargs"})) {
    if (!kwargs->as_object())
      return from.fail("chat_template_kwargs", "chat_template_kwargs must be an object");
    for (const auto& [name, content] : *kwargs->as_object())
      if (name != "messages")
        conversation.emplace_back(name, content);
  }
  to.kind = prompt_kind::chat;
  json::append_value(to.text, json::value{std::move(conversation)});
  to.add_generation_prompt = from.boolean({"add_generation_prompt"}).value_or(true);
  if (auto source = from.string({"chat_template"})) {
    if (!context.settings.trust_request_template)
      return from.fail("chat_template", "chat_template is refused: the server was started without "
                                        "--trust-request-chat-template");
    to.chat_template = std::move(*source);
  }
}

} // namespace

std::variant<json::array, problem> read_messages(const json::value& messages, bool keep_all) {
  auto* given = messages.as_array();
  if (!given || given->empty())
    return problem{"messages", "messages must be a non-empty array"};
  json::array out;
  for (size_t i = 0; i < given->size(); ++i) {
    const auto& message = (*given)[i];
    auto* role = message.find("role");
    if (!role || !role->as_string())
      return in_message(i, " needs a string \"role\"");
    auto content = read_content(message, i, *role->as_string());
    if (auto* why = std::get_if<problem>(&content))
      return *why;
    json::object kept;
    kept.emplace_back("role", *role);
    kept.emplace_back("content", std::move(std::get<std::string>(content)));
    if (keep_all)
      for (const auto& [name, value] : *message.as_object())
        if (name != "role" && name != "content")
          kept.emplace_back(name, value);
    out.emplace_back(std::move(kept));
  }
  return out;
}

parsed_job parse_chat(const json::value& body, const job_context& context) {
  if (!body.as_object())
    return problem{"", "the body must be a JSON object, not " + std::string{body.kind()}};
  field_reader from{body};
  generation_job job;
  openai_format format;
  auto request = make_request(context);
  auto& params = request.params;
  read_conversation(from, context, request.input);
  read_limit(from, context, params);
  auto hints = read_sampling(from, 2.0, params);
  set_temperature(hints.temperature.value_or(1.0), params);
  auto n = from.integer({"n"}, {.low = 1, .high = most_choices}).value_or(1);
  params.n = params.best_of = context.v1_route ? static_cast<uint32_t>(n) : 1;
  auto stream = from.boolean({"stream"}).value_or(false);
  read_logprobs(from, context.v1_route, params, format);
  format.frame = read_frame(from, context, stream, job.warnings);
  params.stream = format.frame != stream_frame::none;
  auto usage = read_include_usage(from);
  format.include_usage = usage && context.v1_route;
  auto named = from.string({"model"}).value_or("");
  if (from.failed())
    return *from.failed();

  identify(format, request, context, named, "chatcmpl-", context.v1_route);
  // OpenAI's clients always name a model and may want this; LMI's answers have no such member.
  if (context.v1_route && !named.empty())
    format.fingerprint = context.server;
  format.choices = params.n;
  format.final_chunk = context.v1_route;
  job.errors = context.v1_route ? error_style::openai : error_style::lmi;
  job.requests.push_back(std::move(request));
  job.writer = make_chat_writer(std::move(format));
  return job;
}

} // namespace troupe::http
