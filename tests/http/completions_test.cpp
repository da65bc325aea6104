#include <catch2/catch.hpp>

#include <regex>

#include "events.hpp"
#include "troupe/http/dialects/openai_completions.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace troupe::test;

namespace {

struct completions {
  dialect_settings settings;

  parsed_job parse(std::string_view body) const {
    job_context context{.settings = settings, .id = "id"};
    context.v1_route = true;
    return parse_completions(parsed(body), context);
  }
  generation_job job(std::string_view body) const { return job_of(parse(body)); }
};

std::string stable(const std::string& text) {
  auto out = std::regex_replace(text, std::regex{"cmpl-[0-9a-f]{24}"}, "ID");
  return std::regex_replace(out, std::regex{"\"created\":[0-9]+"}, "\"created\":0");
}

} // namespace

TEST_CASE_METHOD(completions, "prompts come in four shapes", "[http][completions]") {
  CHECK(job(R"({"prompt":"a"})").requests.front().input.text == "a");
  CHECK(job(R"({"prompt":"a"})").requests.front().params.max_new_tokens == 16);
  auto ids = job(R"({"prompt":[1,2]})");
  REQUIRE(ids.requests.size() == 1);
  CHECK(ids.requests.front().input.kind == prompt_kind::tokens);
  CHECK(ids.requests.front().input.tokens == std::vector<int32_t>{1, 2});
  auto texts = job(R"({"prompt":["a","b"]})");
  REQUIRE(texts.requests.size() == 2);
  CHECK(texts.requests[1].input.text == "b");
  CHECK(texts.requests[1].id == "id-2");
  auto lists = job(R"({"prompt":[[1],[2,3]]})");
  REQUIRE(lists.requests.size() == 2);
  CHECK(lists.requests[1].input.tokens == std::vector<int32_t>{2, 3});
}

TEST_CASE_METHOD(completions, "bad completions are refused by name", "[http][completions]") {
  auto [body, named] = GENERATE(table<std::string, std::string>({
      {R"({})", "prompt: prompt is required"},
      {R"({"prompt":[]})", "prompt must be"},
      {R"({"prompt":""})", "prompt must not be empty"},
      {R"({"prompt":[1,-2]})", "prompt must be"},
      {R"({"prompt":[1,"a"]})", "prompt must be"},
      {R"({"prompt":[[]]})", "prompt must be"},
      {R"({"prompt":{"a":1}})", "prompt must be"},
      {R"({"prompt":"a","max_tokens":0})", "max_tokens"},
      {R"({"prompt":"a","max_tokens":-1})", "max_tokens"},
      {R"({"prompt":"a","logprobs":21})", "logprobs must be between 0 and 20"},
      {R"({"prompt":"a","suffix":"b"})", "suffix"},
      {R"({"prompt":"a","n":2,"best_of":1})", "best_of"},
      {R"({"prompt":"a","n":1,"best_of":2,"stream":true})", "best_of"},
      {R"({"prompt":"a","temperature":2.5})", "temperature must be between 0 and 2"},
      {R"({"prompt":"a","stream_options":{"include_usage":"perhaps"}})", "stream_options"},
  }));
  CAPTURE(body);
  CHECK(complaint(parse(body)).find(named) != std::string::npos);
}

TEST_CASE_METHOD(completions, "a whole completion, echoed", "[http][completions]") {
  auto made = job(R"({"prompt":"Tea is","echo":true,"model":"m"})");
  auto out =
      written(*made.writer,
              {prompt_of(2), last({token(1, " hot")}, {ending(finish_reason::length, " hot", 1)})});
  CHECK(stable(out) ==
        R"({"id":"ID","object":"text_completion","created":0,"model":"m","choices":[{"index":0,)"
        R"("text":"Tea is hot","logprobs":null,"finish_reason":"length"}],)"
        R"("usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}})");
}

TEST_CASE_METHOD(completions, "log-probabilities are parallel arrays", "[http][completions]") {
  auto made = job(R"({"prompt":"é!","echo":true,"logprobs":1,"max_tokens":1})");
  CHECK(made.requests.front().params.prompt_logprobs);
  auto first = prompt_of(2);
  first.prompt[0].tokens = {token(1, "é").token, token(2, "!", -1).token};
  first.prompt[0].tokens[0].has_logprob = false;
  first.prompt[0].top = {{}, {token(5, "?", -0.5f).token}};
  auto one = token(3, "x", -2);
  one.top = {one.token};
  auto out =
      stable(written(*made.writer, {first, last({one}, {ending(finish_reason::length, "x", 1)})}));
  CHECK(out.find(R"("text":"é!x","logprobs":{"tokens":["é","!","x"],)"
                 R"("token_logprobs":[null,-1.0,-2.0],)"
                 R"("top_logprobs":[null,{"?":-0.5},{"x":-2.0}],"text_offset":[0,1,2]})") !=
        std::string::npos);
}

TEST_CASE_METHOD(completions, "scoring a prompt shows no generated token", "[http][completions]") {
  auto made = job(R"({"prompt":[4,5],"echo":true,"logprobs":0,"max_tokens":0})");
  CHECK(made.requests.front().params.max_new_tokens == 1);
  auto first = prompt_of(2);
  first.prompt[0].tokens = {token(4, "a").token, token(5, "b", -1).token};
  first.prompt[0].tokens[0].has_logprob = false;
  auto out = parsed(written(
      *made.writer, {first, last({token(6, "z")}, {ending(finish_reason::length, "z", 1)})}));
  const auto& choice = out.find("choices")->as_array()->at(0);
  CHECK(*choice.find("text")->as_string() == "ab");
  CHECK(choice.find("logprobs")->find("tokens")->as_array()->size() == 2);
  CHECK(*out.find("usage")->find("completion_tokens")->as_integer() == 0);
}

TEST_CASE_METHOD(completions, "choices of several prompts are numbered through",
                 "[http][completions]") {
  auto made =
      job(R"({"prompt":["a","b"],"n":2,"stream":true,"stream_options":{"include_usage":true}})");
  std::string out;
  for (size_t part : {1u, 0u}) {
    auto one = prompt_of(3);
    made.writer->take(part, one, out);
    auto end =
        last({token(1, "x", -1, 0), token(2, "y", -1, 1)},
             {ending(finish_reason::length, "x", 1, 0), ending(finish_reason::length, "y", 1, 1)});
    made.writer->take(part, end, out);
  }
  for (auto index : {"0", "1", "2", "3"})
    CHECK(out.find(std::string{"\"index\":"} + index +
                   ",\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"") !=
          std::string::npos);
  CHECK(out.find(R"("usage":{"prompt_tokens":6,"completion_tokens":4,"total_tokens":10})") !=
        std::string::npos);
  CHECK(out.ends_with("data: [DONE]\n\n"));
  CHECK(out.find("[DONE]") == out.rfind("[DONE]"));
}
