#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/http/dialects/csv.hpp"
#include "troupe/http/dialects/pipeline.hpp"
#include "troupe/http/errors.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace troupe::test;

namespace {

struct pipeline {
  dialect_settings settings;

  parsed_job parse(std::string_view body) const {
    job_context context{.settings = settings, .id = "id", .model = "m"};
    return parse_pipeline(parsed(body), context);
  }
  generation_job job(std::string_view body) const { return job_of(parse(body)); }
  generation_params params(std::string_view parameters) const {
    return job(R"({"inputs":"x","parameters":)" + std::string{parameters} + "}")
        .requests.front()
        .params;
  }
  std::string refusal(std::string_view parameters) const {
    return complaint(parse(R"({"inputs":"x","parameters":)" + std::string{parameters} + "}"));
  }
};

std::string taken(answer_writer& writer, std::vector<std::pair<size_t, event_batch>> batches) {
  std::string out;
  for (auto& [part, one] : batches)
    writer.take(part, one, out);
  return out;
}

} // namespace

TEST_CASE_METHOD(pipeline, "a call has one request per prompt", "[http][pipeline]") {
  auto made = job(R"({"inputs":["a","b"],"parameters":{"max_new_tokens":5,"seed":3}})");
  REQUIRE(made.requests.size() == 2);
  CHECK(made.requests[0].input.text == "a");
  CHECK(made.requests[1].input.text == "b");
  CHECK(made.requests[0].params.max_new_tokens == 5);
  CHECK(made.requests[0].params.sampling.seed == 3);
  CHECK(made.requests[1].params.sampling.seed != 3);
  CHECK(
      taken(*made.writer, {{1, last({token(1, "y")}, {ending(finish_reason::length, "y", 1)})},
                           {0, last({token(1, "x")}, {ending(finish_reason::length, "x", 1)})}}) ==
      R"([{"generated_text":"ax"},{"generated_text":"by"}])");
}

TEST_CASE_METHOD(pipeline, "a text answers as a list of one", "[http][pipeline]") {
  auto made = job(R"({"inputs":"a","parameters":{"return_full_text":false}})");
  REQUIRE(made.requests.size() == 1);
  CHECK(made.requests[0].params.max_new_tokens == 30);
  CHECK_FALSE(made.requests[0].params.sampling.sample);
  CHECK(taken(*made.writer, {{0, last({}, {ending(finish_reason::length, "x", 1)})}}) ==
        R"([{"generated_text":"x"}])");
  CHECK(job(R"("as the whole body")").requests.size() == 1);
}

TEST_CASE_METHOD(pipeline, "several sequences of a prompt are a list of their own",
                 "[http][pipeline]") {
  auto made =
      job(R"({"inputs":["a"],"parameters":{"num_return_sequences":2,"do_sample":true,"top_k":5}})");
  CHECK(made.requests[0].params.n == 2);
  CHECK(taken(*made.writer, {{0, last({}, {ending(finish_reason::length, "x", 1, 0),
                                           ending(finish_reason::length, "y", 1, 1)})}}) ==
        R"([[{"generated_text":"ax"},{"generated_text":"ay"}]])");
  CHECK(refusal(R"({"num_return_sequences":2})").starts_with("num_return_sequences: "));
  CHECK(refusal(R"({"num_return_sequences":5,"num_beams":4})").starts_with("num_return_seq"));
  CHECK(params(R"({"num_beams":4})").n == 1);
  CHECK(params(R"({"num_beams":4,"num_return_sequences":3})").n == 3);
}

TEST_CASE_METHOD(pipeline, "the mode follows generate()", "[http][pipeline]") {
  CHECK(params(R"({"penalty_alpha":0.6,"top_k":4})").search.kind == search_kind::contrastive);
  CHECK(params(R"({"penalty_alpha":0.6,"top_k":4})").search.lanes == 4);
  CHECK(params(R"({"penalty_alpha":0.6,"top_k":1})").search.kind == search_kind::none);
  auto drawn = params(R"({"penalty_alpha":0.6,"top_k":4,"do_sample":true})");
  CHECK(drawn.search.kind == search_kind::none);
  CHECK(drawn.sampling.sample);
  auto beams = params(R"({"num_beams":3,"length_penalty":0.5,"early_stopping":"never"})");
  CHECK(beams.search == search_params{.kind = search_kind::beams,
                                      .lanes = 3,
                                      .returned = 3,
                                      .length_penalty = 0.5,
                                      .stopping = early_stopping::never});
  CHECK(params(R"({"num_beams":3,"do_sample":true})").sampling.sample);
  CHECK(params(R"({"temperature":"0.7"})").sampling.sample);
  CHECK(params(R"({"top_k":5})").sampling.sample);
  CHECK_FALSE(params(R"({"temperature":0})").sampling.sample);
  CHECK_FALSE(params(R"({"top_p":1.0,"top_k":1})").sampling.sample);
  CHECK(refusal(R"({"early_stopping":"sometimes"})").starts_with("early_stopping: "));
  CHECK(refusal(R"({"max_new_tokens":0})").starts_with("max_new_tokens: "));
}

TEST_CASE_METHOD(pipeline, "what the request leaves out comes from generation_config.json",
                 "[http][pipeline]") {
  settings.generation_config = R"({"do_sample":true,"temperature":0.6,"top_p":0.9,
    "max_new_tokens":7,"eos_token_id":[2,3],"transformers_version":"4.45.2","strange":1})";
  auto p = params("{}");
  CHECK(p.sampling.sample);
  CHECK(p.sampling.temperature == 0.6f);
  CHECK(p.sampling.top_p == 0.9f);
  CHECK(p.max_new_tokens == 7);
  CHECK(p.eos_tokens == std::vector<int32_t>{2, 3});
  p = params(R"({"do_sample":false,"max_length":9,"eos_token_id":4})");
  CHECK_FALSE(p.sampling.sample);
  CHECK(p.max_new_tokens == -1);
  CHECK(p.max_length == 9);
  CHECK(p.eos_tokens == std::vector<int32_t>{4});
  settings.generation_config = R"({"temperature":0.6,"top_k":50})";
  CHECK_FALSE(params("{}").sampling.sample);
  settings.generation_config = "{broken";
  CHECK(params("{}").max_new_tokens == 30);
}

TEST_CASE_METHOD(pipeline, "a name that generate() does not know is listed", "[http][pipeline]") {
  auto why = refusal(R"({"no_such_knob":1,"use_cache":true,"other":null,"max_time":2.5})");
  CHECK(why.find("['no_such_knob']") != std::string::npos);
  CHECK(params(R"({"max_time":2.5,"renormalize_logits":true})").max_time_ms == 2500);
  auto made = job(R"({"inputs":"x","parameters":{"guidance_scale":2,"watermark":true}})");
  CHECK(made.warnings.size() == 2);
  auto answer = problem_reply(error_style::pipeline, {"x", "bad"});
  CHECK(answer.status == 424);
  CHECK(answer.body == R"({"code": 424, "message": "invoke handler failure", "error": "bad"})");
}

TEST_CASE_METHOD(pipeline, "inputs that are no texts are refused", "[http][pipeline]") {
  for (auto body : {R"({"inputs":[]})", R"({"inputs":""})", R"({"inputs":["a",""]})",
                    R"({"inputs":[1]})", R"({"inputs":{"a":1}})", R"({"a":1})", "[]"})
    CHECK(complaint(parse(body)).starts_with("inputs: "));
  CHECK(complaint(parse(R"({"inputs":"a","parameters":[]})")).starts_with("parameters: "));
}

TEST_CASE_METHOD(pipeline, "the old way of streaming has a line with a piece of each prompt",
                 "[http][pipeline]") {
  settings.legacy_streaming = dialect_settings::streaming::pieces;
  auto made = job(R"({"inputs":["a","b"],"parameters":{"seed":1}})");
  CHECK(made.requests[0].params.stream);
  CHECK(made.requests[0].params.max_new_tokens == 50);
  CHECK(made.writer->streams());
  CHECK(made.writer->content_type() == "application/jsonlines");
  CHECK(taken(*made.writer, {{0, batch({token(1, "x")})}}) == "");
  CHECK(taken(*made.writer, {{1, batch({token(1, "y")})}}) == "{\"outputs\":[\"x\",\"y\"]}\n");
  CHECK(taken(*made.writer,
              {{0, last({token(1, "z")}, {ending(finish_reason::eos_token, "xz", 2)})}}) == "");
  CHECK(taken(*made.writer, {{1, batch({token(1, "v"), token(1, "w")})}}) ==
        "{\"outputs\":[\"z\",\"v\"]}\n{\"outputs\":[\"\",\"w\"]}\n");
  CHECK(complaint(parse(R"({"inputs":"a"})")).starts_with("inputs: "));
  CHECK(refusal(R"({"num_beams":2})") != "");

  settings.legacy_streaming = dialect_settings::streaming::with_prompt;
  auto echoed = job(R"({"inputs":"a"})");
  CHECK(taken(*echoed.writer, {{0, batch({token(1, "x")})}}) ==
        "{\"outputs\":[\"a\"]}\n{\"outputs\":[\"x\"]}\n");
}

TEST_CASE_METHOD(pipeline, "whoever accepts CSV alone gets a table", "[http][pipeline]") {
  job_context context{.settings = settings, .id = "id", .model = "m", .accepts_csv = true};
  auto made = job_of(parse_pipeline(parsed(R"({"inputs":["a","b"]})"), context));
  CHECK(made.writer->content_type() == "text/csv");
  CHECK(taken(*made.writer, {{0, last({}, {ending(finish_reason::length, " x", 1)})},
                             {1, last({}, {ending(finish_reason::length, ", \"y\"", 1)})}}) ==
        "generated_text\r\na x\r\n\"b, \"\"y\"\"\"\r\n");
}

TEST_CASE("a CSV body is the list of its inputs, or of its rows", "[http][pipeline]") {
  auto read = [](std::string_view body) { return std::get<json::value>(read_csv(body)); };
  auto texts =
      read("id,My Inputs\r\n1,plain\r\n2,\"with, comma and \"\"quotes\"\"\nand a line\"\r\n3\n");
  REQUIRE(texts.as_array());
  REQUIRE(texts.as_array()->size() == 3);
  CHECK(*(*texts.as_array())[0].as_string() == "plain");
  CHECK(*(*texts.as_array())[1].as_string() == "with, comma and \"quotes\"\nand a line");
  CHECK((*texts.as_array())[2].as_string()->empty());
  auto rows = read("question,context\nwho?,me\n");
  REQUIRE(rows.as_array()->size() == 1);
  CHECK(*(*rows.as_array())[0].find("context")->as_string() == "me");
  for (auto body : {"", "inputs\n", "a,b\n1,2\n", "inputs\n\"open\n"})
    CHECK(std::holds_alternative<problem>(read_csv(body)));
}

TEST_CASE_METHOD(pipeline, "beams may go in groups, as generate() has it", "[http][pipeline]") {
  auto body = [](std::string_view parameters) {
    return R"({"inputs":"a","parameters":{)" + std::string{parameters} + "}}";
  };
  auto search = job_of(parse(body(R"("num_beams":6,"num_beam_groups":3,"diversity_penalty":0.5)")))
                    .requests.front()
                    .params.search;
  CHECK(search.groups == 3);
  CHECK(search.lanes == 6);
  CHECK(search.diversity_penalty == 0.5f);
  CHECK(complaint(parse(body(R"("num_beams":4,"num_beam_groups":3,"diversity_penalty":1)")))
            .starts_with("num_beam_groups: num_beam_groups must divide num_beams (4)"));
  CHECK(complaint(parse(body(R"("num_beam_groups":2,"diversity_penalty":1)")))
            .starts_with("num_beam_groups"));
  CHECK(complaint(parse(body(R"("num_beams":4,"num_beam_groups":2)")))
            .starts_with("diversity_penalty"));
  CHECK(
      complaint(parse(body(
                    R"("num_beams":4,"num_beam_groups":2,"diversity_penalty":1,"do_sample":true)")))
          .starts_with("num_beam_groups"));
}
