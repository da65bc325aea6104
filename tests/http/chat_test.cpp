#include <catch2/catch.hpp>

#include <regex>

#include "events.hpp"
#include "troupe/http/dialects/openai_chat.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace troupe::test;

namespace {

struct chat {
  dialect_settings settings;
  bool v1 = true;
  bool sse = false;
  std::string model;

  parsed_job parse(std::string_view body) const {
    job_context context{.settings = settings, .id = "id", .model = model};
    context.v1_route = v1;
    context.accepts_sse = sse;
    return parse_chat(parsed(body), context);
  }
  /// A body with one user message and these further members.
  static std::string body(std::string_view more) {
    std::string out = R"({"messages":[{"role":"user","content":"x"}])";
    return out.append(more).append("}");
  }
  generation_job job(std::string_view more) const { return job_of(parse(body(more))); }
  generation_params params(std::string_view more) const {
    return job(more).requests.front().params;
  }
};

/// Ids and times vary.
std::string stable(const std::string& text) {
  auto out = std::regex_replace(text, std::regex{"chatcmpl-[0-9a-f]{24}"}, "ID");
  return std::regex_replace(out, std::regex{"\"created\":[0-9]+"}, "\"created\":0");
}

} // namespace

TEST_CASE_METHOD(chat, "chat defaults differ by route", "[http][chat]") {
  auto p = params("");
  CHECK(p.max_new_tokens == -1);
  CHECK(p.sampling.sample);
  CHECK(p.sampling.temperature == 1.0f);
  CHECK(p.n == 1);
  v1 = false;
  CHECK(params("").max_new_tokens == 30);
  CHECK(params(R"(,"n":3)").n == 1);
  v1 = true;
  CHECK(params(R"(,"n":3)").n == 3);
}

TEST_CASE_METHOD(chat, "chat parameters arrive", "[http][chat]") {
  auto p = params(R"(,"max_tokens":5,"max_completion_tokens":"7","temperature":0,"top_p":0.5,
    "frequency_penalty":1,"presence_penalty":-1,"logit_bias":{"3":4},"seed":9,"stop":"END",
    "ignore_eos":true,"top_k":2,"min_p":0.1,"logprobs":true,"top_logprobs":2)");
  CHECK(p.max_new_tokens == 7);
  CHECK_FALSE(p.sampling.sample);
  CHECK(p.sampling.top_p == 0.5f);
  CHECK(p.sampling.frequency_penalty == 1.0f);
  CHECK(p.sampling.presence_penalty == -1.0f);
  CHECK(p.sampling.logit_bias == std::vector<token_value>{{3, 4.0f}});
  CHECK(p.sampling.seed == 9);
  CHECK(p.stop == std::vector<std::string>{"END"});
  CHECK(p.ignore_eos);
  CHECK(p.top_n == 2);
  CHECK(p.token_bytes);
  CHECK(params(R"(,"top_logprobs":2)").top_n == 0);
}

TEST_CASE_METHOD(chat, "the conversation goes to the template as JSON", "[http][chat]") {
  auto made = job_of(parse(R"({"messages":[{"role":"system","content":"s","name":"n"},
    {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
    {"role":"assistant","content":null}],"chat_template_kwargs":{"enable_thinking":false},
    "add_generation_prompt":false,"tools":[{"type":"function"}],"unknown":1})"));
  const auto& input = made.requests.front().input;
  CHECK(input.kind == prompt_kind::chat);
  CHECK_FALSE(input.add_generation_prompt);
  CHECK(input.text ==
        R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"a\nb"},)"
        R"({"role":"assistant","content":""}],"enable_thinking":false})");
}

TEST_CASE_METHOD(chat, "bad chats are refused by name", "[http][chat]") {
  auto [text, named] = GENERATE(table<std::string, std::string>({
      {R"({})", "messages: Invalid Request Property: 'messages'"},
      {R"({"messages":[]})", "messages must be a non-empty array"},
      {R"({"messages":"x"})", "messages must be a non-empty array"},
      {R"({"messages":[{"content":"x"}]})", "messages[0] needs a string \"role\""},
      {R"({"messages":["x"]})", "messages[0] needs"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content must be"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content must be"},
      {R"({"messages":[{"role":"user","content":[{"text":"x"}]}]})", "needs a string \"type\""},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "image_url"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "\"text\""},
      {chat::body(R"(,"temperature":3)"), "temperature: temperature must be between 0 and 2"},
      {chat::body(R"(,"temperature":-1)"), "temperature"},
      {chat::body(R"(,"top_p":0)"), "top_p"},
      {chat::body(R"(,"presence_penalty":3)"), "presence_penalty must be between -2 and 2"},
      {chat::body(R"(,"top_logprobs":21)"), "top_logprobs must be between 0 and 20"},
      {chat::body(R"(,"max_tokens":0)"), "max_tokens"},
      {chat::body(R"(,"n":129)"), "n must be between 1 and 128"},
      {chat::body(R"(,"logprobs":"perhaps")"), "logprobs must be true or false"},
      {chat::body(R"(,"stream_options":1)"), "stream_options must be an object"},
      {chat::body(R"(,"chat_template":"{{x}}")"), "--trust-request-chat-template"},
      {chat::body(R"(,"model":5)"), "model must be a string"},
  }));
  CAPTURE(text);
  CHECK(complaint(parse(text)).find(named) != std::string::npos);
}

TEST_CASE_METHOD(chat, "the body's model selects on v1 routes only", "[http][chat]") {
  settings.default_model = "tiny";
  auto name = [&](std::string_view more) { return job(more).requests.front().model; };
  CHECK(name(R"(,"model":"a")") == "a");
  CHECK(name("").empty());
  CHECK(name(R"(,"model":"tgi")").empty());
  CHECK(name(R"(,"model":"dummy")").empty());
  model = "q";
  CHECK(name(R"(,"model":"a")") == "q");
  model.clear();
  v1 = false;
  CHECK(name(R"(,"model":"a")").empty());
}

TEST_CASE_METHOD(chat, "a trusted server takes the request's template", "[http][chat]") {
  settings.trust_request_template = true;
  CHECK(job(R"(,"chat_template":"{{x}}")").requests.front().input.chat_template == "{{x}}");
}

TEST_CASE_METHOD(chat, "a whole chat answer", "[http][chat]") {
  settings.default_model = "tiny";
  auto made = job("");
  auto out =
      written(*made.writer, {prompt_of(5), batch({token(1, "a")}),
                             last({token(2, "")}, {ending(finish_reason::eos_token, "a", 2)})});
  CHECK(stable(out) ==
        R"({"id":"ID","object":"chat.completion","created":0,"model":"tiny","choices":[{"index":0,)"
        R"("message":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":"stop"}],)"
        R"("usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}})");
  CHECK(parsed(out).find("id"));
}

TEST_CASE_METHOD(chat, "finish words follow the route unless the option forces them",
                 "[http][chat]") {
  auto word = [&](finish_reason reason) {
    auto made = job("");
    auto out = parsed(written(*made.writer, {last({token(1, "a")}, {ending(reason, "a", 1)})}));
    return *out.find("choices")->as_array()->at(0).find("finish_reason")->as_string();
  };
  CHECK(word(finish_reason::stop_sequence) == "stop");
  CHECK(word(finish_reason::length) == "length");
  v1 = false;
  CHECK(word(finish_reason::eos_token) == "eos_token");
  CHECK(word(finish_reason::stop_sequence) == "stop_sequence");
  settings.openai_finish_reasons = true;
  CHECK(word(finish_reason::eos_token) == "stop");
  v1 = true;
  settings.openai_finish_reasons = false;
  CHECK(word(finish_reason::eos_token) == "eos_token");
}

TEST_CASE_METHOD(chat, "the v1 stream has a last chunk with the reason", "[http][chat]") {
  auto made = job(R"(,"stream":true,"model":"m","stream_options":{"include_usage":true})");
  CHECK(made.requests.front().model == "m");
  auto out =
      written(*made.writer, {prompt_of(5), batch({token(1, "a")}),
                             last({token(2, "b")}, {ending(finish_reason::length, "ab", 2)})});
  std::string head =
      R"(data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"m","choices":[)";
  CHECK(
      stable(out) ==
      head +
          R"({"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null}],"usage":null})" +
          "\n\n" + head +
          R"({"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":null}],"usage":null})" +
          "\n\n" + head +
          R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null})" +
          "\n\n" + head +
          R"(],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}})" + "\n\n" +
          "data: [DONE]\n\n");
}

TEST_CASE_METHOD(chat, "LMI routes stream lines whose last has content and reason",
                 "[http][chat]") {
  v1 = false;
  auto made = job(R"(,"stream":true)");
  CHECK(made.writer->content_type() == "application/jsonlines");
  auto out =
      written(*made.writer, {batch({token(1, "a")}),
                             last({token(2, "b")}, {ending(finish_reason::eos_token, "ab", 2)})});
  std::string head =
      R"({"id":"ID","object":"chat.completion.chunk","created":0,"model":"","choices":[)";
  CHECK(
      stable(out) ==
      head +
          R"({"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null}]})" +
          "\n" + head +
          R"({"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":"eos_token"}]})" +
          "\n");
  sse = true;
  CHECK(job(R"(,"stream":true)").writer->content_type() == "text/event-stream");
  sse = false;
  settings.output_formatter = "sse_chat";
  CHECK(job(R"(,"stream":true)").writer->content_type() == "text/event-stream");
  CHECK(job(R"(,"parameters":{"output_formatter":"jsonlines_chat"})").writer->content_type() ==
        "application/jsonlines");
}

TEST_CASE_METHOD(chat, "log-probabilities hold UTF-8 bytes and all alternatives", "[http][chat]") {
  auto made = job(R"(,"logprobs":true,"top_logprobs":1)");
  auto one = token(1, "é");
  one.top = {one.token, token(2, "\xc3", -3).token};
  auto out = stable(written(*made.writer, {last({one}, {ending(finish_reason::length, "é", 1)})}));
  CHECK(out.find(R"("logprobs":{"content":[{"token":"é","logprob":-0.25,"bytes":[195,169],)"
                 R"("top_logprobs":[{"token":"é","logprob":-0.25,"bytes":[195,169]},)"
                 "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-3.0,\"bytes\":[195]}]}]}") !=
        std::string::npos);
  v1 = false;
  CHECK_FALSE(params(R"(,"logprobs":true)").token_bytes); // Only with top_logprobs > 0.
}

TEST_CASE_METHOD(chat, "two choices stream under their indices", "[http][chat]") {
  auto made = job(R"(,"stream":true,"n":2)");
  auto out = written(*made.writer, {batch({token(1, "a", -1, 0), token(2, "b", -1, 1)}),
                                    last({}, {ending(finish_reason::length, "a", 1, 0),
                                              ending(finish_reason::eos_token, "b", 1, 1)})});
  CHECK(out.find(R"({"index":1,"delta":{"role":"assistant","content":"b"})") != std::string::npos);
  CHECK(out.find(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"})") !=
        std::string::npos);
  CHECK(out.find(R"({"index":1,"delta":{},"logprobs":null,"finish_reason":"stop"})") !=
        std::string::npos);
}

TEST_CASE_METHOD(chat, "the server's fingerprint goes to clients that name a model",
                 "[http][chat]") {
  auto answer = [&](std::string_view more) {
    job_context context{.settings = settings, .id = "id", .model = model};
    context.v1_route = v1;
    context.server = "troupe-9";
    auto made = job_of(parse_chat(parsed(body(more)), context));
    return written(*made.writer,
                   {prompt_of(1), last({token(1, "a")}, {ending(finish_reason::length, "a", 1)})});
  };
  constexpr auto mark = R"("system_fingerprint":"troupe-9","choices":[)";
  CHECK(answer(R"(,"model":"tgi")").find(mark) != std::string::npos);
  auto stream = answer(R"(,"model":"tgi","stream":true)");
  CHECK(stream.find(mark) != std::string::npos);
  CHECK(answer("").find("system_fingerprint") == std::string::npos);
  v1 = false; // The contract lists all members of LMI's.
  CHECK(answer(R"(,"model":"tgi")").find("system_fingerprint") == std::string::npos);
}
