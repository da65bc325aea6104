#include "troupe/http/dialects/tokenize.hpp"

#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

void read_chat(field_reader& from, const job_context& context, prompt& to) {
  auto messages = read_messages(*from.raw({"messages"}), true);
  if (auto* why = std::get_if<problem>(&messages))
    return from.fail(why->parameter, why->message);
  json::object conversation;
  conversation.emplace_back("messages", std::move(std::get<json::array>(messages)));
  if (auto* tools = from.raw({"tools"})) {
    if (!tools->as_array())
      return from.fail("tools", "tools must be an array");
    conversation.emplace_back("tools", *tools);
  }
  if (auto* kwargs = from.raw({"chat_template_kwargs"})) {
    if (!kwargs->as_object())
      return from.fail("chat_template_kwargs", "chat_template_kwargs must be an object");
    for (const auto& [name, content] : *kwargs->as_object())
      if (name != "messages" && name != "tools")
        conversation.emplace_back(name, content);
  }
  if (auto source = from.string({"chat_template"})) {
    if (!context.settings.trust_request_template)
      return from.fail("chat_template", "chat_template is refused: the server was started without "
                                        "--trust-request-chat-template");
    to.chat_template = std::move(*source);
  }
  to.kind = prompt_kind::chat;
  to.add_generation_prompt = from.boolean({"add_generation_prompt"}).value_or(true);
  json::append_value(to.text, json::value{std::move(conversation)});
}

} // namespace

std::variant<tokenize_request, problem> parse_tokenize(const json::value& body,
                                                       const job_context& context) {
  if (!body.as_object())
    return problem{"", "the body must be a JSON object, not " + std::string{body.kind()}};
  field_reader from{body};
  tokenize_request out;
  out.model = named_model(context, from.string({"model"}).value_or(""));
  auto special = from.boolean({"add_special_tokens"});
  if (from.raw({"messages"})) {
    read_chat(from, context, out.input);
    out.input.add_special_tokens = special.value_or(false);
  } else if (auto text = from.string({"prompt"})) {
    out.input.text = std::move(*text);
    out.input.add_special_tokens = special.value_or(true);
  } else {
    from.fail("prompt", "prompt (a string) or messages (an array) is required");
  }
  if (from.failed())
    return *from.failed();
  return out;
}

std::variant<detokenize_request, problem> parse_detokenize(const json::value& body,
                                                           const job_context& context) {
  if (!body.as_object())
    return problem{"", "the body must be a JSON object, not " + std::string{body.kind()}};
  field_reader from{body};
  auto named = from.string({"model"}).value_or("");
  auto tokens = from.token_ids({"tokens"});
  if (!tokens)
    from.fail("tokens", "tokens is required: an array of token ids");
  if (from.failed())
    return *from.failed();
  detokenize_request out;
  out.model = named_model(context, named);
  out.tokens = std::move(*tokens);
  return out;
}

reply tokenize_reply(const tokenize_answer& answer) {
  reply out;
  out.body.reserve(answer.tokens.size() * 6 + 64);
  out.body += "{\"tokens\":[";
  for (size_t i = 0; i < answer.tokens.size(); ++i) {
    if (i > 0)
      out.body += ',';
    json::append_integer(out.body, answer.tokens[i]);
  }
  out.body += "],\"count\":";
  json::append_unsigned(out.body, answer.tokens.size());
  out.body += ",\"max_model_len\":";
  json::append_unsigned(out.body, answer.max_model_len);
  out.body += '}';
  return out;
}

reply detokenize_reply(std::string_view text) {
  reply out;
  out.body = "{\"prompt\":";
  json::append_string(out.body, text);
  out.body += '}';
  return out;
}

} // namespace troupe::http
