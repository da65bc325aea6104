#include <catch2/catch.hpp>

#include "events.hpp"
#include "troupe/http/dialects/lmi.hpp"

using namespace troupe;
using namespace troupe::http;
using namespace troupe::test;

namespace {

struct lmi {
  dialect_settings settings;

  parsed_job parse(std::string_view body) const {
    job_context context{.settings = settings, .id = "id", .model = "m"};
    return parse_lmi(parsed(body), context);
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

} // namespace

TEST_CASE_METHOD(lmi, "a plain request has the contract's defaults", "[http][lmi]") {
  auto made = job(R"({"inputs":"Hello"})");
  REQUIRE(made.requests.size() == 1);
  const auto& r = made.requests.front();
  CHECK(r.id == "id");
  CHECK(r.model == "m");
  CHECK(r.input.kind == prompt_kind::text);
  CHECK(r.input.text == "Hello");
  CHECK(r.input.add_special_tokens);
  CHECK(r.params.max_new_tokens == 30);
  CHECK_FALSE(r.params.sampling.sample);
  CHECK(r.params.n == 1);
  CHECK_FALSE(r.params.stream);
  CHECK(r.slot_timeout_ms == 120'000);
  CHECK_FALSE(made.writer->streams());
  CHECK(made.warnings.empty());
  CHECK(job(R"({"inputs":"Hello"})").requests.front().params.sampling.seed !=
        r.params.sampling.seed);
}

TEST_CASE_METHOD(lmi, "every parameter arrives", "[http][lmi]") {
  auto p = params(R"({"max_new_tokens":7,"min_new_tokens":2,"min_length":3,"do_sample":true,
    "temperature":0.5,"top_k":4,"top_p":0.9,"min_p":0.1,"typical_p":0.8,"epsilon_cutoff":0.01,
    "eta_cutoff":0.02,"repetition_penalty":2,"frequency_penalty":-1,"presence_penalty":1.5,
    "no_repeat_ngram_size":3,"bad_words_ids":[[1,2],[3]],"logit_bias":{"5":-100,"6":"1.5"},
    "stop_sequences":["a","b"],"stop_token_ids":[9],"ignore_eos_token":true,
    "include_stop_str_in_output":true,"skip_special_tokens":false,"seed":18446744073709551615,
    "top_n_tokens":3,"decoder_input_details":true,"truncate":5,"n":2,"best_of":3})");
  CHECK(p.max_new_tokens == 7);
  const auto& s = p.sampling;
  CHECK(s.min_new_tokens == 2);
  CHECK(s.min_length == 3);
  CHECK(s.sample);
  CHECK(s.temperature == 0.5f);
  CHECK(s.top_k == 4);
  CHECK(s.top_p == 0.9f);
  CHECK(s.min_p == 0.1f);
  CHECK(s.typical_p == 0.8f);
  CHECK(s.epsilon_cutoff == 0.01f);
  CHECK(s.eta_cutoff == 0.02f);
  CHECK(s.repetition_penalty == 2.0f);
  CHECK(s.frequency_penalty == -1.0f);
  CHECK(s.presence_penalty == 1.5f);
  CHECK(s.no_repeat_ngram_size == 3);
  CHECK(s.bad_words == std::vector<std::vector<int32_t>>{{1, 2}, {3}});
  CHECK(s.logit_bias == std::vector<token_value>{{5, -100.0f}, {6, 1.5f}});
  CHECK(p.stop == std::vector<std::string>{"a", "b"});
  CHECK(p.stop_tokens == std::vector<int32_t>{9});
  CHECK(p.ignore_eos);
  CHECK(p.include_stop);
  CHECK_FALSE(p.skip_special_tokens);
  CHECK(s.seed == UINT64_MAX);
  CHECK(p.top_n == 3);
  CHECK(p.prompt_logprobs);
  CHECK(p.truncate == 5);
  CHECK(p.n == 2);
  CHECK(p.best_of == 3);
}

TEST_CASE_METHOD(lmi, "what masks and forces tokens arrives", "[http][lmi]") {
  auto s = params(R"({"suppress_tokens":[1],"begin_suppress_tokens":[2,3],"forced_bos_token_id":4,
    "forced_eos_token_id":5,"encoder_no_repeat_ngram_size":6,"encoder_repetition_penalty":1.5,
    "exponential_decay_length_penalty":[7,1.25]})")
               .sampling;
  CHECK(s.suppress_tokens == std::vector<int32_t>{1});
  CHECK(s.begin_suppress_tokens == std::vector<int32_t>{2, 3});
  CHECK(s.forced_bos_token == 4);
  CHECK(s.forced_eos_tokens == std::vector<int32_t>{5});
  CHECK(s.encoder_no_repeat_ngram_size == 6);
  CHECK(s.encoder_repetition_penalty == 1.5f);
  CHECK(s.decay_start == 7);
  CHECK(s.decay_factor == 1.25f);
  CHECK(params(R"({"forced_eos_token_id":[8,9]})").sampling.forced_eos_tokens ==
        std::vector<int32_t>{8, 9});
  CHECK(job(R"({"inputs":"x","parameters":{"early_stopping":"never"}})").warnings.empty());
}

TEST_CASE_METHOD(lmi, "the server's stop sequences join those of the request", "[http][lmi]") {
  settings.stop_sequences = {"END"};
  CHECK(params("{}").stop == std::vector<std::string>{"END"});
  CHECK(params(R"({"stop":["a"]})").stop == std::vector<std::string>{"a", "END"});
  // The limit is on what a client sends.
  CHECK(
      params(R"({"stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16"]})")
          .stop.size() == 17);
}

TEST_CASE_METHOD(lmi, "aliases and text forms are understood, null means absent", "[http][lmi]") {
  CHECK(params(R"({"max_tokens":"12"})").max_new_tokens == 12);
  CHECK(params(R"({"max_new_tokens":3.0})").max_new_tokens == 3);
  CHECK(params(R"({"stop":"x"})").stop == std::vector<std::string>{"x"});
  CHECK(params(R"({"stop_strings":["y"]})").stop == std::vector<std::string>{"y"});
  CHECK(params(R"({"manual_seed":"42"})").sampling.seed == 42);
  CHECK(params(R"({"ignore_eos":"True"})").ignore_eos);
  CHECK(params(R"({"do_sample":"true","temperature":"0.5"})").sampling.temperature == 0.5f);
  CHECK(params(R"({"max_new_tokens":null,"temperature":null})").max_new_tokens == 30);
  CHECK(params(R"({"logprobs":2})").top_n == 2);
  CHECK(params(R"({"prompt_logprobs":0})").prompt_logprobs);
  CHECK(params(R"({"do_sample":true,"best_of":3})").n == 3);
  CHECK(params(R"({"top_k":-1})").sampling.top_k == 0);
}

TEST_CASE_METHOD(lmi, "what implies sampling turns it on, do_sample decides", "[http][lmi]") {
  for (auto on :
       {R"({"do_sample":true})", R"({"temperature":0.7})", R"({"top_p":0.5})", R"({"top_k":4})",
        R"({"typical_p":0.5})", R"({"min_p":0.1})", R"({"decoding_strategy":"sample"})"})
    CHECK(params(on).sampling.sample);
  for (auto off : {R"({})", R"({"do_sample":false,"temperature":0.7})", R"({"temperature":0})",
                   R"({"top_p":1.0})", R"({"top_k":1})", R"({"top_k":0})",
                   R"({"decoding_strategy":"greedy"})", R"({"do_sample":true,"temperature":0})"})
    CHECK_FALSE(params(off).sampling.sample);
  CHECK(job(R"({"inputs":"x","parameters":{"do_sample":false,"top_p":0.5}})").warnings.size() == 1);
  settings.decoding_strategy = "sample";
  CHECK(params("{}").sampling.sample);
}

TEST_CASE_METHOD(lmi, "values out of range are refused by name", "[http][lmi]") {
  auto [parameters, named] = GENERATE(table<std::string, std::string>({
      {R"({"max_new_tokens":0})", "max_new_tokens must be greater than 0"},
      {R"({"max_new_tokens":-1})", "max_new_tokens"},
      {R"({"max_new_tokens":"many"})", "max_new_tokens must be an integer, not string"},
      {R"({"max_new_tokens":1.5})", "max_new_tokens must be an integer"},
      {R"({"max_new_tokens":[1]})", "max_new_tokens must be an integer, not array"},
      {R"({"temperature":-0.1})", "temperature"},
      {R"({"temperature":true})", "temperature must be a number, not boolean"},
      {R"({"top_k":-2})", "top_k"},
      {R"({"top_p":0})", "top_p must be greater than 0 and at most 1"},
      {R"({"top_p":1.01})", "top_p"},
      {R"({"min_p":1.5})", "min_p"},
      {R"({"typical_p":0})", "typical_p"},
      {R"({"epsilon_cutoff":2})", "epsilon_cutoff"},
      {R"({"repetition_penalty":0})", "repetition_penalty"},
      {R"({"frequency_penalty":2.1})", "frequency_penalty must be between -2 and 2"},
      {R"({"presence_penalty":-3})", "presence_penalty"},
      {R"({"no_repeat_ngram_size":-1})", "no_repeat_ngram_size"},
      {R"({"bad_words_ids":[[]]})", "bad_words_ids"},
      {R"({"bad_words_ids":[1]})", "bad_words_ids"},
      {R"({"bad_words_ids":[[-1]]})", "bad_words_ids"},
      {R"({"logit_bias":{"x":1}})", "logit_bias"},
      {R"({"logit_bias":{"1":101}})", "logit_bias"},
      {R"({"logit_bias":[1]})", "logit_bias"},
      {R"({"stop":[""]})", "stop"},
      {R"({"stop":[1]})", "stop"},
      {R"({"stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]})",
       "at most 16"},
      {R"({"stop_token_ids":[-1]})", "stop_token_ids"},
      {R"({"seed":-1})", "seed"},
      {R"({"seed":"x"})", "seed"},
      {R"({"do_sample":"maybe"})", "do_sample must be true or false"},
      {R"({"details":7})", "details must be true or false"},
      {R"({"top_n_tokens":21})", "top_n_tokens"},
      {R"({"truncate":0})", "truncate"},
      {R"({"n":2})", "need sampling"},
      {R"({"do_sample":true,"n":3,"best_of":2})", "best_of must be at least n"},
      {R"({"do_sample":true,"n":0})", "n must be between 1"},
      {R"({"forced_bos_token_id":-1})", "forced_bos_token_id"},
      {R"({"exponential_decay_length_penalty":[1]})", "exponential_decay_length_penalty"},
      {R"({"exponential_decay_length_penalty":[1,0]})", "exponential_decay_length_penalty"},
      {R"({"early_stopping":"sometimes"})", "early_stopping"},
      {R"({"num_beams":17})", "num_beams"},
      {R"({"num_beams":4,"n":5})", "n"},
      {R"({"num_beams":4,"best_of":5})", "best_of"},
      {R"({"num_beams":4,"decoding_strategy":"contrastive"})", "num_beams"},
      {R"({"decoding_strategy":"contrastive","n":2})", "n"},
      {R"({"decoding_strategy":"magic"})", "decoding_strategy"},
      {R"({"use_lru_kv_cache":true})", "use_lru_kv_cache needs cached_prompt"},
      {R"({"do_sample":true,"temperature":1e400})", ""},
  }));
  CAPTURE(parameters);
  if (named.empty())
    CHECK_FALSE(http::json::parse(parameters)); // JSON cannot say it.
  else
    CHECK(refusal(parameters).find(named) != std::string::npos);
}

TEST_CASE_METHOD(lmi, "bodies of the wrong shape are refused", "[http][lmi]") {
  auto [body, named] = GENERATE(table<std::string, std::string>({
      {R"({})", "Invalid Request Property: 'inputs'"},
      {R"({"inputs":null})", "Invalid Request Property: 'inputs'"},
      {R"({"inputs":""})", "inputs must not be empty"},
      {R"({"inputs":["a"]})", "inputs must be a string, not array"},
      {R"({"inputs":3})", "inputs must be a string, not number"},
      {R"({"inputs":"x","parameters":[]})", "parameters must be an object, not array"},
      {R"({"inputs":"x","stream":"perhaps"})", "stream must be true or false"},
      {R"({"inputs":"","cached_prompt":"x"})", "inputs must not be empty"},
      {R"({"inputs":"x","cached_prompt":5})", "cached_prompt must be a string"},
      {R"({"inputs":"x","adapters":"a"})", "adapters need option.enable_lora"},
      {R"({"inputs":"x","stream":true,"parameters":{"num_beams":4}})", "streaming"},
      {R"({"inputs":"x","stream":true,"parameters":{"do_sample":true,"n":2}})", "streaming"},
      {R"({"inputs":"x","stream":true,"parameters":{"decoder_input_details":true}})", "streaming"},
      {R"([1])", "the body must be a JSON object, not array"},
  }));
  CAPTURE(body);
  CHECK(complaint(parse(body)).find(named) != std::string::npos);
}

TEST_CASE_METHOD(lmi, "unknown parameters are dropped with a warning", "[http][lmi]") {
  auto made = job(R"({"inputs":"x","parameters":{"watermark":true,"stream":true,"top_k":3}})");
  REQUIRE(made.warnings.size() == 1);
  CHECK(made.warnings[0].find("watermark") != std::string::npos);
  CHECK_FALSE(made.writer->streams()); // parameters.stream counts for nothing.
}

TEST_CASE_METHOD(lmi, "the formatter is chosen by request, option and stream", "[http][lmi]") {
  auto type = [&](std::string_view body) { return std::string{job(body).writer->content_type()}; };
  constexpr auto plain = R"({"inputs":"x"})";
  constexpr auto stream = R"({"inputs":"x","stream":true})";
  constexpr auto sse = R"({"inputs":"x","parameters":{"output_formatter":"sse"}})";
  constexpr auto json = R"({"inputs":"x","stream":true,"parameters":{"output_formatter":"json"}})";
  CHECK(type(plain) == "application/json");
  CHECK(type(stream) == "application/jsonlines");
  CHECK(type(sse) == "text/event-stream");
  CHECK(type(json) == "application/json");
  settings.tgi_compat = true;
  CHECK(type(stream) == "text/event-stream");
  settings.tgi_compat = false;
  settings.output_formatter = "sse";
  CHECK(type(plain) == "text/event-stream");
  CHECK(type(json) == "application/json");
  settings.output_formatter = "nonsense";
  CHECK(type(stream) == "application/jsonlines");
  CHECK(job(stream).warnings.size() == 1);
}

TEST_CASE_METHOD(lmi, "a whole answer without details is its text", "[http][lmi]") {
  auto made = job(R"({"inputs":"Say \"é\"","parameters":{"return_full_text":true}})");
  CHECK(
      written(*made.writer, {prompt_of(3), batch({token(1, " a")}),
                             last({token(2, " b")}, {ending(finish_reason::length, " a b", 2)})}) ==
      R"({"generated_text":"Say \"é\" a b"})");
}

TEST_CASE_METHOD(lmi, "details list tokens, prefill and top tokens", "[http][lmi]") {
  auto made = job(R"({"inputs":"Hi","parameters":
    {"details":true,"decoder_input_details":true,"top_n_tokens":1}})");
  auto first = prompt_of(2);
  first.prompt[0].tokens = {token(7, "H").token, token(8, "i", -1.5f).token};
  first.prompt[0].tokens[0].has_logprob = false;
  auto one = token(1, "a");
  one.top = {token(2, "b", -0.125f).token};
  auto two = token(3, "");
  two.token.special = true;
  two.top = {two.token};
  CHECK(written(*made.writer,
                {first, last({one, two}, {ending(finish_reason::eos_token, "a", 2)})}) ==
        R"({"generated_text":"a","details":{"inputs":"Hi","finish_reason":"eos_token",)"
        R"("generated_tokens":2,"tokens":[{"id":1,"text":"a","log_prob":-0.25},)"
        R"({"id":3,"text":"","log_prob":-0.25,"special_token":true}],)"
        R"("prefill":[{"id":7,"text":"H","log_prob":null},{"id":8,"text":"i","log_prob":-1.5}],)"
        R"("top_tokens":[[{"id":2,"text":"b","log_prob":-0.125}],)"
        R"([{"id":3,"text":"","log_prob":-0.25,"special_token":true}]]}})");
}

TEST_CASE_METHOD(lmi, "several choices come best first", "[http][lmi]") {
  auto made = job(R"({"inputs":"Hi","parameters":{"do_sample":true,"n":2}})");
  auto out = written(*made.writer, {batch({token(1, "a", -2, 0), token(2, "b", -1, 1)}),
                                    last({}, {ending(finish_reason::length, "a", 1, 0, -2),
                                              ending(finish_reason::length, "b", 1, 1, -1)})});
  CHECK(out == R"({"generated_text":"b","details":{"inputs":"Hi","finish_reason":"length",)"
               R"("generated_tokens":1,"tokens":[{"id":2,"text":"b","log_prob":-1.0}],)"
               R"("best_of_sequences":[{"finish_reason":"length","generated_tokens":1,)"
               R"("tokens":[{"id":1,"text":"a","log_prob":-2.0}],"generated_text":"a"}]}})");
}

TEST_CASE_METHOD(lmi, "TGI's forms have its names", "[http][lmi]") {
  settings.tgi_compat = true;
  auto whole = job(R"({"inputs":"Hi"})");
  CHECK(written(*whole.writer, {last({token(1, "a")}, {ending(finish_reason::length, "a", 1)})}) ==
        R"([{"generated_text":"a","details":{"inputs":"Hi","finish_reason":"length",)"
        R"("generated_tokens":1,"tokens":[{"id":1,"text":"a","logprob":-0.25}]}}])");
  auto stream = job(R"({"inputs":"Hi","stream":true})");
  auto special = token(2, "");
  special.token.special = true;
  CHECK(written(*stream.writer, {batch({token(1, "a")}),
                                 last({special}, {ending(finish_reason::eos_token, "a", 2)})}) ==
        "data: {\"token\":{\"id\":1,\"text\":\"a\",\"logprob\":-0.25}}\n\n"
        "data: {\"token\":{\"id\":2,\"text\":\"\",\"logprob\":-0.25,\"special\":true},"
        "\"generated_text\":\"a\",\"details\":{\"inputs\":\"Hi\",\"finish_reason\":\"eos_token\","
        "\"generated_tokens\":2}}\n\n");
}

TEST_CASE_METHOD(lmi, "a stream has one line per token and the whole text in the last",
                 "[http][lmi]") {
  auto made = job(R"({"inputs":"Hi","stream":true,"parameters":{"details":true}})");
  CHECK(made.writer->content_type() == "application/jsonlines");
  CHECK(made.requests.front().params.stream);
  CHECK(
      written(*made.writer, {prompt_of(1), batch({token(1, "a"), token(2, "b\n")}),
                             last({token(3, "c")}, {ending(finish_reason::length, "ab\nc", 3)})}) ==
      "{\"token\":{\"id\":1,\"text\":\"a\",\"log_prob\":-0.25}}\n"
      "{\"token\":{\"id\":2,\"text\":\"b\\n\",\"log_prob\":-0.25}}\n"
      "{\"token\":{\"id\":3,\"text\":\"c\",\"log_prob\":-0.25},\"generated_text\":\"ab\\nc\","
      "\"details\":{\"inputs\":\"Hi\",\"finish_reason\":\"length\",\"generated_tokens\":3}}\n");
  std::string error;
  made.writer->fail(R"({"code": 424})", error);
  CHECK(error == "{\"code\": 424}\n");
}

TEST_CASE_METHOD(lmi, "a cached prompt goes apart from the inputs", "[http][lmi]") {
  auto made = job(R"({"inputs":" x","cached_prompt":"p","parameters":{"use_lru_kv_cache":true}})");
  CHECK(made.requests.front().input.cached_prefix == "p");
  CHECK(made.requests.front().input.text == " x");
}

TEST_CASE_METHOD(lmi, "beams return all of themselves unless n says otherwise", "[http][lmi]") {
  auto p = params(R"({"num_beams":4,"length_penalty":"0.5","early_stopping":true})");
  CHECK(p.search == search_params{.kind = search_kind::beams,
                                  .lanes = 4,
                                  .returned = 4,
                                  .length_penalty = 0.5,
                                  .stopping = early_stopping::yes});
  CHECK(p.n == 4);
  CHECK(p.best_of == 4);
  CHECK(params(R"({"num_beams":4,"n":2})").n == 2);
  CHECK_FALSE(p.sampling.sample);
  CHECK(params(R"({"num_beams":4,"do_sample":true})").sampling.sample);
}

TEST_CASE_METHOD(lmi, "beams are told in their own order, whatever their sums", "[http][lmi]") {
  auto made = job(R"({"inputs":"x","parameters":{"num_beams":2}})");
  std::vector<event_batch> batches;
  batches.push_back(last({token(1, "a", -3, 0), token(2, "b", -1, 1)},
                         {ending(finish_reason::length, "a", 1, 0, -3),
                          ending(finish_reason::length, "b", 1, 1, -1)}));
  CHECK(written(*made.writer, std::move(batches)).starts_with(R"({"generated_text":"a",)"));
}

TEST_CASE_METHOD(lmi, "contrastive search has candidates and a penalty of its own", "[http][lmi]") {
  auto p = params(R"({"decoding_strategy":"contrastive"})");
  CHECK(p.search.kind == search_kind::contrastive);
  CHECK(p.search.lanes == 4);
  CHECK(p.search.penalty_alpha == 0.6f);
  CHECK_FALSE(p.sampling.sample);
  p = params(R"({"decoding_strategy":"contrastive","top_k":6,"penalty_alpha":0.3})");
  CHECK(p.search.lanes == 6);
  CHECK(p.search.penalty_alpha == 0.3f);
  CHECK(p.sampling.top_k == 0);
  CHECK(params(R"({"decoding_strategy":"contrastive","top_k":1})").search.kind ==
        search_kind::none);
  CHECK(params(R"({"decoding_strategy":"contrastive","do_sample":true})").sampling.sample);
  settings.decoding_strategy = "contrastive";
  settings.contrastive_embeddings = true;
  CHECK(params("{}").search.kind == search_kind::contrastive);
  CHECK(params("{}").search.embeddings);
  CHECK(params(R"({"num_beams":2})").search.kind == search_kind::beams);
}
