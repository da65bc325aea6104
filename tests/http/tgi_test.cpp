#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/http/dialects/tgi.hpp"
#include "troupe/http/errors.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace troupe::test;

namespace {

struct tgi {
  dialect_settings settings;

  parsed_job parse(std::string_view body) const {
    job_context context{.settings = settings, .id = "id", .model = "m"};
    return parse_tgi_compat(parsed(body), context);
  }
  generation_job job(std::string_view body) const { return job_of(parse(body)); }
  generation_params params(std::string_view parameters) const {
    return job(R"({"inputs":"x","parameters":)" + std::string{parameters} + "}")
        .requests.front()
        .params;
  }
  std::string refusal(std::string_view more) const {
    return complaint(parse(R"({"inputs":"x",)" + std::string{more} + "}"));
  }
};

constexpr auto two_tokens = R"({"inputs":"x","parameters":{"details":true}})";

} // namespace

TEST_CASE_METHOD(tgi, "TGI's defaults are its own", "[http][tgi]") {
  auto p = params("{}");
  CHECK(p.max_new_tokens == 100);
  CHECK_FALSE(p.sampling.sample);
  CHECK_FALSE(p.stream);
  CHECK(p.include_stop);
  CHECK(p.best_of == 1);
  CHECK(job(R"({"inputs":"x"})").errors == error_style::tgi);
}

TEST_CASE_METHOD(tgi, "what only sampling heeds makes TGI sample", "[http][tgi]") {
  CHECK(params(R"({"do_sample":true})").sampling.sample);
  CHECK(params(R"({"do_sample":false,"temperature":0.5})").sampling.sample);
  CHECK(params(R"({"top_p":0.9})").sampling.sample);
  CHECK(params(R"({"top_k":10,"typical_p":0.5})").sampling.sample);
  CHECK_FALSE(params(R"({"temperature":0,"do_sample":true})").sampling.sample);
  auto p = params(R"({"temperature":0.5,"seed":7,"stop":["a","b"],"truncate":3,
    "repetition_penalty":1.5,"frequency_penalty":0.5,"top_n_tokens":2,"max_new_tokens":9})");
  CHECK(p.sampling.temperature == 0.5f);
  CHECK(p.sampling.seed == 7);
  CHECK(p.stop == std::vector<std::string>{"a", "b"});
  CHECK(p.truncate == 3);
  CHECK(p.top_n == 2);
  CHECK(p.max_new_tokens == 9);
}

TEST_CASE_METHOD(tgi, "TGI's clients may send what cannot be heeded", "[http][tgi]") {
  auto made = job(R"({"inputs":"x","parameters":{"watermark":false,"grammar":null,"seed":null}})");
  CHECK(made.warnings.empty());
  made = job(R"({"inputs":"x","parameters":{"watermark":true}})");
  REQUIRE(made.warnings.size() == 1);
  CHECK(made.warnings[0].find("watermark") != std::string::npos);
}

TEST_CASE_METHOD(tgi, "what TGI refuses names the parameter", "[http][tgi]") {
  CHECK(complaint(parse(R"({})")).find("inputs: ") == 0);
  CHECK(complaint(parse(R"({"inputs":""})")).find("inputs: ") == 0);
  CHECK(complaint(parse(R"({"inputs":["x"]})")).find("inputs: ") == 0);
  CHECK(complaint(parse(R"([])")).find("JSON object") != std::string::npos);
  CHECK(refusal(R"("parameters":[])").find("parameters: ") == 0);
  CHECK(refusal(R"("parameters":{"max_new_tokens":0})").find("max_new_tokens: ") == 0);
  CHECK(refusal(R"("parameters":{"best_of":2})").find("best_of: ") == 0);
  CHECK(refusal(R"("stream":true,"parameters":{"best_of":2,"do_sample":true})").find("best_of: ") ==
        0);
  CHECK(refusal(R"("stream":true,"parameters":{"decoder_input_details":true})")
            .find("decoder_input_details: ") == 0);
  CHECK(refusal(R"("parameters":{"top_p":2})").find("top_p: ") == 0);
}

TEST_CASE_METHOD(tgi, "the plain answer is one object, in an array on the compatible route",
                 "[http][tgi]") {
  auto answer = [&](parsed_job made) {
    auto whole = job_of(std::move(made));
    CHECK_FALSE(whole.writer->streams());
    return written(*whole.writer, {last({token(1, "a"), token(2, "b")},
                                        {ending(finish_reason::length, "ab", 2)})});
  };
  job_context context{.settings = settings, .id = "id"};
  CHECK(answer(parse_tgi_generate(parsed(R"({"inputs":"x","stream":true})"), context)) ==
        R"({"generated_text":"ab"})");
  CHECK(answer(parse(R"({"inputs":"x","parameters":{"return_full_text":true}})")) ==
        R"([{"generated_text":"xab"}])");
  CHECK(answer(parse(two_tokens)) ==
        R"([{"generated_text":"ab","details":{"finish_reason":"length","generated_tokens":2,)"
        R"("seed":null,"prefill":[],"tokens":[{"id":1,"text":"a","logprob":-0.25,"special":false},)"
        R"({"id":2,"text":"b","logprob":-0.25,"special":false}]}}])");
}

TEST_CASE_METHOD(tgi, "details list prompt, alternatives and the other sequences", "[http][tgi]") {
  auto made = job(R"({"inputs":"x","parameters":{"decoder_input_details":true,"top_n_tokens":1,
                      "best_of":2,"do_sample":true,"seed":5}})");
  auto start = prompt_of(1);
  start.prompt.front().tokens.push_back(token(9, "x").token);
  start.prompt.front().tokens.front().has_logprob = false;
  auto worse = token(1, "a");
  worse.top.push_back(token(3, "c").token);
  auto better = token(2, "b", -0.125f, 1);
  auto text =
      written(*made.writer,
              {start, last({worse, better}, {ending(finish_reason::length, "a", 1, 0, -2),
                                             ending(finish_reason::eos_token, "b", 1, 1, -1)})});
  auto all = parsed(text);
  const auto& whole = all.as_array()->front();
  CHECK(*whole.find("generated_text")->as_string() == "b");
  const auto& details = *whole.find("details");
  CHECK(*details.find("seed")->as_integer() == 5);
  const auto& prefill = details.find("prefill")->as_array()->front();
  CHECK(prefill.find("logprob")->is_null());
  CHECK(prefill.find("special") == nullptr);
  const auto& other = details.find("best_of_sequences")->as_array()->front();
  CHECK(*other.find("generated_text")->as_string() == "a");
  CHECK(*other.find("finish_reason")->as_string() == "length");
  const auto& top = other.find("top_tokens")->as_array()->front();
  CHECK(*top.as_array()->front().find("id")->as_integer() == 3);
}

TEST_CASE_METHOD(tgi, "a stream numbers its tokens from one and ends with the text",
                 "[http][tgi]") {
  auto made = job(R"({"inputs":"x","stream":true,"parameters":{"details":true}})");
  REQUIRE(made.writer->streams());
  CHECK(made.writer->content_type() == "text/event-stream");
  CHECK(made.requests.front().params.stream);
  auto text =
      written(*made.writer, {prompt_of(4), batch({token(1, "a")}),
                             last({token(2, "b")}, {ending(finish_reason::eos_token, "ab", 2)})});
  CHECK(text ==
        "data:{\"index\":1,\"token\":{\"id\":1,\"text\":\"a\",\"logprob\":-0.25,\"special\":false},"
        "\"generated_text\":null,\"details\":null}\n\n"
        "data:{\"index\":2,\"token\":{\"id\":2,\"text\":\"b\",\"logprob\":-0.25,\"special\":false},"
        "\"generated_text\":\"ab\",\"details\":{\"finish_reason\":\"eos_token\","
        "\"generated_tokens\":2,\"seed\":null,\"input_length\":4}}\n\n");
  std::string broken;
  made.writer->fail(R"({"error":"x"})", broken);
  CHECK(broken == "data:{\"error\":\"x\"}\n\n");
}

TEST_CASE_METHOD(tgi, "an end that no token brought about has an event of its own", "[http][tgi]") {
  auto made = job(R"({"inputs":"x","stream":true})");
  auto end = ending(finish_reason::length, "ab", 1);
  end.tail = "b";
  auto text = written(*made.writer, {batch({token(7, "a")}), last({}, {end})});
  auto alone = parsed(text.substr(text.rfind("data:") + 5));
  CHECK(*alone.find("token")->find("text")->as_string() == "b");
  CHECK(*alone.find("token")->find("id")->as_integer() == 7);
  CHECK(*alone.find("generated_text")->as_string() == "ab");
}

TEST_CASE_METHOD(tgi, "errors have TGI's words", "[http][tgi][errors]") {
  auto [code, status, type] = GENERATE(table<ec, int, std::string>({
      {ec::invalid_request, 422, "validation"},
      {ec::prompt_too_long, 422, "validation"},
      {ec::template_failed, 422, "template_error"},
      {ec::unauthorized, 401, "unauthorized"},
      {ec::model_not_found, 404, "not_found"},
      {ec::request_timeout, 408, "timeout"},
      {ec::payload_too_large, 413, "validation"},
      {ec::queue_full, 429, "overloaded"},
      {ec::slot_timeout, 429, "overloaded"},
      {ec::model_not_ready, 503, "unhealthy"},
      {ec::shutting_down, 503, "unhealthy"},
      {ec::row_fault, 424, "generation"},
      {ec::out_of_memory, 424, "generation"},
      {ec::internal, 424, "generation"},
  }));
  CAPTURE(to_string(code));
  auto why = caf::make_error(code, std::string{"why"});
  auto a = error_reply(error_style::tgi, settings, "m", why);
  CHECK(a.status == status);
  auto body = parsed(a.body);
  CHECK(*body.find("error_type")->as_string() == type);
  CHECK(body.find("error")->as_string()->find("why") != std::string::npos);
  CHECK(stream_error(error_style::tgi, settings, "m", why) == a.body);
}
