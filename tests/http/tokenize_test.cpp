#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/http/dialects/tokenize.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace troupe::test;

namespace {

struct tokenize {
  dialect_settings settings;
  auto parse(std::string_view body) const {
    job_context context{.settings = settings, .id = "id", .model = "m"};
    return parse_tokenize(parsed(body), context);
  }
  tokenize_request request(std::string_view body) const {
    return std::get<tokenize_request>(parse(body));
  }
  std::string refusal(std::string_view body) const {
    return std::get<problem>(parse(body)).message;
  }
};

} // namespace

TEST_CASE_METHOD(tokenize, "text keeps special tokens, chats bring their own", "[http][tokenize]") {
  auto text = request(R"({"prompt":"abc"})");
  CHECK(text.model == "m");
  CHECK(text.input.text == "abc");
  CHECK(text.input.add_special_tokens);
  CHECK_FALSE(request(R"({"prompt":"abc","add_special_tokens":false})").input.add_special_tokens);
  auto chat = request(R"({"messages":[{"role":"tool","content":"x","tool_call_id":"7"}],
    "tools":[{"type":"function"}],"chat_template_kwargs":{"a":1},"add_generation_prompt":false})");
  CHECK(chat.input.kind == prompt_kind::chat);
  CHECK_FALSE(chat.input.add_special_tokens);
  CHECK_FALSE(chat.input.add_generation_prompt);
  CHECK(chat.input.text == R"({"messages":[{"role":"tool","content":"x","tool_call_id":"7"}],)"
                           R"("tools":[{"type":"function"}],"a":1})");
}

TEST_CASE_METHOD(tokenize, "bad bodies are refused", "[http][tokenize]") {
  CHECK(refusal("{}").find("prompt (a string) or messages") == 0);
  CHECK(refusal(R"({"prompt":5})") == "prompt must be a string, not number");
  CHECK(refusal(R"({"messages":[]})") == "messages must be a non-empty array");
  CHECK(refusal(R"({"messages":[{"role":"user","content":"x"}],"tools":1})") ==
        "tools must be an array");
  CHECK(refusal(R"({"messages":[{"role":"user","content":"x"}],"chat_template":"x"})")
            .find("--trust-request-chat-template") != std::string::npos);
  job_context context{.settings = settings, .id = "id", .model = "m"};
  CHECK(std::holds_alternative<problem>(parse_detokenize(parsed(R"({"tokens":["x"]})"), context)));
  CHECK(std::holds_alternative<problem>(parse_detokenize(parsed("{}"), context)));
}
