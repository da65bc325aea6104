#include "troupe/examples/load_test/mock/answers.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace troupe::load_test {

namespace {

namespace json = boost::json;

constexpr std::string_view token_text = " word";
constexpr std::string_view last_chunk = "0\r\n\r\n";

std::string sse(const std::string& data) {
  return chunk("data: " + data + "\n\n");
}

/// Tokens of this server: words of texts, ids of id lists.
uint32_t words_in(std::string_view text) {
  uint32_t n = 0;
  auto inside = false;
  for (char c : text) {
    auto space = c == ' ' || c == '\n' || c == '\t';
    n += !space && !inside;
    inside = !space;
  }
  return n;
}

const json::value* member(const json::object& o, std::string_view name) {
  return o.if_contains(name);
}

uint32_t prompt_tokens(const json::object& o) {
  if (const auto* list = member(o, "messages"); list && list->is_array()) {
    uint32_t n = 0;
    for (const auto& m : list->get_array())
      if (const auto* text = m.is_object() ? member(m.get_object(), "content") : nullptr;
          text && text->is_string())
        n += words_in(text->get_string());
    return n;
  }
  for (const char* name : {"prompt", "inputs"})
    if (const auto* v = member(o, name)) {
      if (v->is_string())
        return words_in(v->get_string());
      if (v->is_array())
        return static_cast<uint32_t>(v->get_array().size());
    }
  return 0;
}

uint32_t wanted_tokens(const json::object& o, uint32_t otherwise) {
  for (const char* name : {"max_completion_tokens", "max_tokens", "max_new_tokens"})
    if (const auto* v = member(o, name); v && v->is_int64() && v->get_int64() > 0)
      return static_cast<uint32_t>(std::min<int64_t>(v->get_int64(), 1 << 24));
  if (const auto* p = member(o, "parameters"); p && p->is_object())
    return wanted_tokens(p->get_object(), otherwise);
  return otherwise;
}

bool truth(const json::object& o, std::string_view name) {
  const auto* v = member(o, name);
  return v && v->is_bool() && v->get_bool();
}

std::string repeated(uint32_t tokens) {
  std::string out;
  out.reserve(tokens * token_text.size());
  for (uint32_t i = 0; i < tokens; ++i)
    out += token_text;
  return out;
}

json::object usage(uint32_t in, uint32_t out) {
  return {{"prompt_tokens", in}, {"completion_tokens", out}, {"total_tokens", in + out}};
}

mock_answer openai(const json::object& o, bool chat, uint32_t default_tokens) {
  static const auto chat_event =
      sse(R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",)"
          R"("choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]})");
  static const auto text_event = sse(R"({"id":"cmpl-1","object":"text_completion","created":1,)"
                                     R"("model":"mock","choices":[{"index":0,"text":" word",)"
                                     R"("logprobs":null,"finish_reason":null}]})");
  mock_answer out;
  out.generates = true;
  out.streams = truth(o, "stream");
  out.output_tokens = wanted_tokens(o, default_tokens);
  auto used = usage(prompt_tokens(o), out.output_tokens);
  json::object head{{"id", chat ? "chatcmpl-1" : "cmpl-1"}, {"created", 1}, {"model", "mock"}};
  if (out.streams) {
    out.content_type = "text/event-stream";
    out.event = chat ? chat_event : text_event;
    head["object"] = chat ? "chat.completion.chunk" : "text_completion";
    json::object choice{{"index", 0}, {"finish_reason", "length"}};
    if (chat)
      choice["delta"] = json::object{};
    else
      choice["text"] = "";
    head["choices"] = json::array{choice};
    out.last = sse(json::serialize(head));
    if (const auto* wants = member(o, "stream_options");
        wants && wants->is_object() && truth(wants->get_object(), "include_usage")) {
      head["choices"] = json::array{};
      head["usage"] = used;
      out.last += sse(json::serialize(head));
    }
    out.last += sse("[DONE]").append(last_chunk);
    return out;
  }
  auto text = repeated(out.output_tokens);
  json::object choice{{"index", 0}, {"finish_reason", "length"}};
  if (chat)
    choice["message"] = {{"role", "assistant"}, {"content", text}};
  else
    choice["text"] = text;
  head["object"] = chat ? "chat.completion" : "text_completion";
  head["choices"] = json::array{choice};
  head["usage"] = used;
  out.body = json::serialize(head);
  return out;
}

/// @param always_streams The route says so; nothing: the body's "stream" does.
mock_answer generate(const json::object& o, bool tgi, bool always_streams,
                     uint32_t default_tokens) {
  static const std::string token = R"({"token":{"id":7,"text":" word","log_prob":-0.5}})";
  static const auto line_event = chunk(token + "\n");
  static const auto sse_event = sse(token);
  static const auto tgi_event =
      chunk("data:{\"index\":1,\"token\":{\"id\":7,\"text\":\" word\",\"logprob\":-0.5,\"special\":"
            "false},\"generated_text\":null,\"details\":null}\n\n");
  mock_answer out;
  out.generates = true;
  out.output_tokens = wanted_tokens(o, default_tokens);
  out.streams = tgi ? always_streams : truth(o, "stream");
  auto details = json::object{{"finish_reason", "length"},
                              {"generated_tokens", out.output_tokens},
                              {"input_length", prompt_tokens(o)}};
  auto text = repeated(out.output_tokens);
  if (!out.streams) {
    out.body = json::serialize(json::object{{"generated_text", text}, {"details", details}});
    return out;
  }
  const auto* parameters = member(o, "parameters");
  const auto* form = parameters && parameters->is_object()
                         ? member(parameters->get_object(), "output_formatter")
                         : nullptr;
  auto events = tgi || (form && form->is_string() && form->get_string() == "sse");
  json::object last{{"token", {{"id", 7}, {"text", token_text}, {"log_prob", -0.5}}},
                    {"generated_text", text},
                    {"details", details}};
  auto line = json::serialize(last);
  out.content_type = events ? "text/event-stream" : "application/jsonlines";
  out.event = tgi ? tgi_event : events ? sse_event : line_event;
  // The last token's event is the one with the text.
  out.last = (tgi      ? chunk("data:" + line + "\n\n")
              : events ? sse(line)
                       : chunk(line + "\n"))
                 .append(last_chunk);
  return out;
}

mock_answer with_body(uint16_t status, std::string body) {
  mock_answer out;
  out.status = status;
  out.body = std::move(body);
  return out;
}

} // namespace

std::string chunk(std::string_view text) {
  std::array<char, 20> size{};
  auto n = std::snprintf(size.data(), size.size(), "%zx\r\n", text.size());
  std::string out{size.data(), static_cast<size_t>(n)};
  return out.append(text).append("\r\n");
}

mock_answer answer_to(std::string_view method, std::string_view path, std::string_view body,
                      uint32_t default_tokens, uint64_t running) {
  path = path.substr(0, path.find('?'));
  if (method == "GET") {
    if (path == "/v1/models")
      return with_body(200, R"({"object":"list","data":[{"id":"mock","object":"model"}]})");
    if (path == "/metrics") {
      auto out = with_body(200, "# TYPE mock_requests_running gauge\nmock_requests_running " +
                                    std::to_string(running) + "\n");
      out.content_type = "text/plain; version=0.0.4";
      return out;
    }
    return with_body(200, "{}");
  }
  json::error_code error;
  auto value = json::parse({body.data(), body.size()}, error);
  if (error || !value.is_object())
    return with_body(400, R"({"error":{"message":"the body is no JSON object"}})");
  const auto& o = value.get_object();
  if (path.ends_with("/chat/completions"))
    return openai(o, true, default_tokens);
  if (path.ends_with("/completions"))
    return openai(o, false, default_tokens);
  if (path.ends_with("/tokenize"))
    return with_body(200, "{\"count\":" + std::to_string(prompt_tokens(o)) + "}");
  if (path.ends_with("/generate"))
    return generate(o, true, false, default_tokens);
  if (path.ends_with("/generate_stream"))
    return generate(o, true, true, default_tokens);
  if (path.ends_with("/invocations") || path.starts_with("/predictions/")) {
    if (member(o, "stream") || member(o, "parameters"))
      return generate(o, false, false, default_tokens);
    return with_body(200, R"([{"label":"POSITIVE","score":0.99}])");
  }
  return with_body(404, R"({"error":{"message":"no such route"}})");
}

} // namespace troupe::load_test
