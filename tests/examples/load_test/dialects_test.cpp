#include <algorithm>
#include <string>

#include <boost/json/parse.hpp>
#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/dialects/dialect.hpp"
#include "troupe/examples/load_test/random.hpp"

#include "padded.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::test;
namespace json = boost::json;

namespace {

struct reading {
  uint32_t tokens = 0, prompt_tokens = 0, output_tokens = 0;
  outcome verdict = outcome::ok;
  std::string text, complaint;
  bool operator==(const reading&) const = default;
};

reading read(const dialect& d, uint16_t status, std::string_view type, std::string_view body,
             size_t first, size_t then) {
  answer_reader r{d};
  r.reset();
  r.begin(status, type, true);
  reading out;
  auto take = [&](std::string_view piece) { out.tokens += r.take(piece); };
  in_pieces(body.substr(0, first), std::max<size_t>(first, 1), take);
  in_pieces(body.substr(std::min(first, body.size())), then, take);
  r.finish();
  out.prompt_tokens = r.state().prompt_tokens;
  out.output_tokens = r.state().output_tokens;
  out.verdict = r.verdict();
  out.complaint = r.complaint();
  out.text = r.take_text();
  return out;
}

/// What the reader makes of a body, which must not depend on where its bytes are cut.
reading read_all_ways(const dialect& d, uint16_t status, std::string_view type,
                      std::string_view body) {
  auto expected = read(d, status, type, body, 0, body.size() + 1);
  for (size_t cut = 1; cut < body.size(); ++cut) {
    INFO("cut at " << cut);
    REQUIRE(read(d, status, type, body, cut, body.size()) == expected);
  }
  CHECK(read(d, status, type, body, 0, 1) == expected);
  return expected;
}

dialect_ptr dialect_named(std::string_view name, dialect_settings s = {}) {
  return make_dialect(name, std::move(s)).value();
}

json::object body_of(const dialect& d, const prompt& p) {
  return json::parse(d.body(p)).as_object();
}

prompt asking(std::string text, uint32_t tokens) {
  prompt p;
  p.messages.push_back({"user", std::move(text)});
  p.output_tokens = tokens;
  return p;
}

constexpr auto sse = "text/event-stream; charset=utf-8";

const std::string chat_stream =
    "data: "
    "{\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
    "\"finish_reason\":null}]}\n\n"
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Gr\\u00fc\\\"\"},"
    "\"logprobs\":null,\"finish_reason\":null}]}\n\n"
    ": keep-alive\n\n"
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xc3\x9f dich\"}}]}\n\n"
    "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":17,"
    "\"completion_tokens\":5}}\n\n"
    "data: [DONE]\n\n";

} // namespace

TEST_CASE("a chat stream: tokens, text and usage", "[examples][load]") {
  auto r = read_all_ways(*dialect_named("openai-chat"), 200, sse, chat_stream);
  CHECK(r.verdict == outcome::ok);
  CHECK(r.tokens == 2); // the empty first chunk is none
  CHECK(r.text == "Gr\xc3\xbc\"\xc3\x9f dich");
  CHECK(r.prompt_tokens == 12);
  CHECK(r.output_tokens == 5);
}

TEST_CASE("reasoning and tool calls are output as well", "[examples][load]") {
  auto r = read_all_ways(
      *dialect_named("openai-chat"), 200, sse,
      "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\ndata: [DONE]\n\n");
  CHECK(r.tokens == 2);
  CHECK(r.verdict == outcome::ok);
}

TEST_CASE("a stream that breaks off is a lost connection, whatever was said before",
          "[examples][load]") {
  auto chat = dialect_named("openai-chat");
  for (size_t end = 0; end < chat_stream.find("\"finish_reason\":\"stop\""); end += 7)
    CHECK(read(*chat, 200, sse, std::string_view{chat_stream}.substr(0, end), 0, 16).verdict ==
          outcome::connection_lost);
}

TEST_CASE("an error inside of a stream is told", "[examples][load]") {
  auto chat = dialect_named("openai-chat");
  auto r = read_all_ways(*chat, 200, sse,
                         "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
                         "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n");
  CHECK(r.verdict == outcome::stream_error);
  CHECK(r.complaint == "out of memory");
  CHECK(r.tokens == 1);
  r = read_all_ways(*chat, 200, sse, "event: error\ndata: {\"message\":\"lost\"}\n\n");
  CHECK(r.verdict == outcome::stream_error);
  CHECK(r.complaint == "lost");
}

TEST_CASE("statuses: refused, or an error with the server's words", "[examples][load]") {
  auto chat = dialect_named("openai-chat");
  auto check = [&](uint16_t status, const char* body, outcome o, const char* words) {
    auto r = read_all_ways(*chat, status, "application/json", body);
    CHECK(r.verdict == o);
    CHECK(r.complaint == words);
  };
  check(429, R"({"error":{"message":"queue full","type":"x"}})", outcome::refused,
        "429 queue full");
  check(503, R"({"code":503,"type":"T","message":"not ready"})", outcome::refused, "503 not ready");
  check(424, R"({"code":424,"error":"Input Parsing failed"})", outcome::http_error,
        "424 Input Parsing failed");
  check(422, R"({"detail":[{"msg":"x"}]})", outcome::http_error, "422 [{\"msg\":\"x\"}]");
  check(502, "<html>Bad gateway</html>", outcome::http_error, "502 <html>Bad gateway</html>");
  check(500, "", outcome::http_error, "500 ");
}

TEST_CASE("text completions, streamed and whole", "[examples][load]") {
  auto d = dialect_named("openai");
  auto r = read_all_ways(
      *d, 200, sse,
      "data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n"
      "data: {\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"length\"}],"
      "\"usage\":null}\n\n"
      "data: [DONE]\n\n");
  CHECK(r.tokens == 2);
  CHECK(r.text == "ab");
  dialect_settings whole;
  whole.stream = false;
  r = read_all_ways(*dialect_named("openai", whole), 200, "application/json",
                    R"({"choices":[{"text":"ab","finish_reason":"length"}],)"
                    R"("usage":{"prompt_tokens":3,"completion_tokens":2}})");
  CHECK(r.verdict == outcome::ok);
  CHECK(r.tokens == 0); // no token came by itself
  CHECK(r.output_tokens == 2);
  r = read_all_ways(*dialect_named("openai-chat", whole), 200, "application/json",
                    R"({"choices":[{"message":{"role":"assistant","content":"hi"},)"
                    R"("finish_reason":"stop"}],"usage":{"completion_tokens":1}})");
  CHECK(r.verdict == outcome::ok);
  CHECK(r.text == "hi");
}

TEST_CASE("LMI: lines, events, and one document", "[examples][load]") {
  const std::string first = R"({"token":{"id":260,"text":" the","log_prob":-0.51}})";
  const std::string last =
      R"({"token":{"id":3,"text":" a","log_prob":-1},"generated_text":" the a",)"
      R"("details":{"finish_reason":"length","generated_tokens":2}})";
  auto lines = read_all_ways(*dialect_named("lmi"), 200, "application/jsonlines",
                             first + "\n" + last + "\n");
  CHECK(lines.verdict == outcome::ok);
  CHECK(lines.tokens == 2);
  CHECK(lines.output_tokens == 2);
  CHECK(lines.text == " the a");
  dialect_settings s;
  s.lmi = lmi_format::sse;
  auto events = read_all_ways(*dialect_named("lmi", s), 200, "text/event-stream",
                              "data: " + first + "\n\ndata: " + last + "\n\n");
  CHECK(events == lines);
  s.lmi = lmi_format::json;
  auto d = dialect_named("lmi", s);
  for (const char* body : {R"({"generated_text":"x y","details":{"generated_tokens":2}})",
                           R"([{"generated_text":"x y","details":{"generated_tokens":2}}])"}) {
    auto r = read_all_ways(*d, 200, "application/json", body);
    CHECK(r.verdict == outcome::ok);
    CHECK(r.output_tokens == 2);
    CHECK(r.text == "x y");
  }
  auto r = read_all_ways(*dialect_named("lmi"), 200, "application/jsonlines",
                         first + "\n" + R"({"code":424,"error":"exception occurred"})" + "\n");
  CHECK(r.verdict == outcome::stream_error);
  CHECK(r.complaint == "exception occurred");
}

TEST_CASE("TGI: nulls until the end", "[examples][load]") {
  auto r = read_all_ways(
      *dialect_named("tgi"), 200, "text/event-stream",
      "data:{\"index\":1,\"token\":{\"id\":1,\"text\":\"a\",\"logprob\":-1,\"special\":false},"
      "\"generated_text\":null,\"details\":null}\n\n"
      "data:{\"index\":2,\"token\":{\"id\":2,\"text\":\"b\",\"logprob\":-1,\"special\":false},"
      "\"generated_text\":\"ab\",\"details\":{\"finish_reason\":\"length\",\"generated_tokens\":2,"
      "\"input_length\":5}}\n\n");
  CHECK(r.verdict == outcome::ok);
  CHECK(r.tokens == 2);
  CHECK(r.output_tokens == 2);
  CHECK(r.prompt_tokens == 5);
  r = read_all_ways(*dialect_named("tgi"), 200, "text/event-stream",
                    "data:{\"error\":\"Request failed\",\"error_type\":\"generation\"}\n\n");
  CHECK(r.verdict == outcome::stream_error);
  CHECK(r.complaint == "Request failed");
}

TEST_CASE("tasks answer with an array or an object", "[examples][load]") {
  auto d = dialect_named("task");
  auto verdict = [&](const char* body) {
    return read_all_ways(*d, 200, "application/json", body).verdict;
  };
  CHECK(verdict(R"([{"label":"POSITIVE","score":0.9}])") == outcome::ok);
  CHECK(verdict(R"({"score":0.1,"start":0,"end":3,"answer":"the"})") == outcome::ok);
  CHECK(verdict("[[[[0.1,0.2]]]]") == outcome::ok);
  CHECK(verdict("[]") == outcome::malformed);
  CHECK(verdict("nothing") == outcome::malformed);
  CHECK(verdict(R"([{"label":)") == outcome::malformed);
  CHECK(verdict(R"({"error":"invoke handler failure"})") == outcome::http_error);
}

TEST_CASE("an answer of the wrong kind is malformed, not slow", "[examples][load]") {
  auto chat = dialect_named("openai-chat");
  auto r = read(*chat, 200, "application/json", R"({"choices":[]})", 0, 9);
  CHECK(r.verdict == outcome::malformed);
  CHECK(r.complaint.find("--no-stream") != std::string::npos);
  dialect_settings whole;
  whole.stream = false;
  CHECK(read(*dialect_named("openai", whole), 200, sse, "data: {}\n\n", 0, 9).verdict ==
        outcome::malformed);
  for (const char* event :
       {"data: x\n\n", "data: {}\n\n", "data: {\"choices\":1}\n\n", "data: {\"choices\":[7]}\n\n",
        "data: [1,2\n\n", "data: {\"choices\":[]} {}\n\n", "data: \xff\xfe\n\n"}) {
    INFO(event);
    CHECK(read_all_ways(*chat, 200, sse, event).verdict == outcome::malformed);
  }
}

TEST_CASE("damaged streams never crash a reader", "[examples][load]") {
  random_source random{9};
  const std::string tgi_stream =
      "data:{\"token\":{\"id\":1,\"text\":\"a\"},\"generated_text\":\"ab\","
      "\"details\":{\"generated_tokens\":2}}\n\n";
  for (auto name : dialect_names) {
    auto d = dialect_named(name);
    const auto& sound = name.starts_with("openai") ? chat_stream : tgi_stream;
    for (int round = 0; round < 2000; ++round) {
      auto body = sound;
      for (auto damages = 1 + random.below(4); damages > 0; --damages) {
        auto at = random.below(body.size());
        switch (random.below(3)) {
        case 0:
          body[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          body.erase(at, random.below(20));
          break;
        default:
          body.insert(at, body.substr(random.below(body.size()), random.below(20)));
        }
      }
      auto type = random.below(4) == 0 ? "application/json" : "text/event-stream";
      auto whole = read(*d, 200, type, body, body.size(), 1);
      REQUIRE(read(*d, 200, type, body, 0, 1 + random.below(9)).verdict == whole.verdict);
    }
  }
  // Deeper than any parser should follow.
  auto deep = "data: {\"choices\":" + std::string(100'000, '[') + "\n\n";
  CHECK(read(*dialect_named("openai-chat"), 200, sse, deep, 0, 4096).verdict == outcome::malformed);
}

TEST_CASE("requests say what was asked for", "[examples][load]") {
  dialect_settings s;
  s.model = "m";
  auto chat = body_of(*dialect_named("openai-chat", s), asking("hello \"you\"", 7));
  CHECK(chat.at("messages").at(0).at("content") == "hello \"you\"");
  CHECK(chat.at("max_tokens") == 7);
  CHECK(chat.at("ignore_eos") == true);
  CHECK(chat.at("stream_options").at("include_usage") == true);
  CHECK(chat.at("model") == "m");
  auto lmi = body_of(*dialect_named("lmi"), asking("x", 7));
  CHECK(lmi.at("inputs") == "x");
  CHECK(lmi.at("stream") == true);
  CHECK(lmi.at("parameters").at("max_new_tokens") == 7);
  CHECK(lmi.at("parameters").at("output_formatter") == "jsonlines");
  auto ids = asking("", 3);
  ids.messages.clear();
  ids.ids = {5, 6};
  CHECK(body_of(*dialect_named("openai"), ids).at("prompt") == json::array({5, 6}));
  auto tgi = body_of(*dialect_named("tgi"), asking("x", 7));
  CHECK(tgi.at("parameters").at("details") == true);
  CHECK(dialect_named("tgi")->path() == "/generate_stream");
  s.task = "question-answering";
  auto qa = body_of(*dialect_named("task", s), asking("the quick fox", 0));
  CHECK(qa.at("inputs").at("context") == "the quick fox");
  CHECK(dialect_named("task", s)->path() == "/predictions/m");
}

TEST_CASE("extra members go over the body, and into objects that are there", "[examples][load]") {
  dialect_settings s;
  s.extra = json::parse(R"({"parameters": {"top_k": 5}, "adapters": "a"})").as_object();
  auto b = body_of(*dialect_named("lmi", s), asking("x", 7));
  CHECK(b.at("parameters").at("top_k") == 5);
  CHECK(b.at("parameters").at("max_new_tokens") == 7);
  CHECK(b.at("adapters") == "a");
}

TEST_CASE("a dialect that is none is refused with those there are", "[examples][load]") {
  auto d = make_dialect("soap", {});
  REQUIRE_FALSE(d);
  CHECK(troupe::text_of(d.error()).find("openai-chat, openai, lmi, tgi, task") !=
        std::string::npos);
}
