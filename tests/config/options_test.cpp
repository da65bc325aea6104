#include <set>

#include <catch2/catch.hpp>

#include "troupe/config/options.hpp"

using namespace troupe;
using namespace troupe::config;
using namespace std::chrono_literals;

namespace {

std::string error_of(std::string_view key, std::string_view text) {
  settings s;
  auto result = s.set(key, text);
  INFO(key << " = " << text);
  REQUIRE(!result);
  CHECK(code_of(result.error()) == ec::bad_option);
  return text_of(result.error());
}

settings with(std::string_view key, std::string_view text) {
  settings s;
  INFO(key << " = " << text);
  auto result = s.set(key, text);
  REQUIRE(result);
  return s;
}

} // namespace

TEST_CASE("every row of the table is sound", "[config][options]") {
  std::set<std::string_view> keys, flags;
  for (auto& o : option_table) {
    INFO(o.key);
    CHECK(keys.insert(o.key).second);
    CHECK(!o.help.empty());
    CHECK(o.help.back() != '.');
    if (!o.flag.empty()) {
      CHECK(flags.insert(o.flag).second);
      CHECK(o.flag.starts_with("--"));
    }
    if (o.type == kind::choice)
      CHECK(!o.words.empty());
    CHECK(o.least <= o.most);
    CHECK(find_option(o.key) == &o);
    CHECK(!allowed(o).empty());
    if (!o.fallback.empty()) {
      auto p = parse_value(o, o.fallback);
      REQUIRE(p);
      CHECK(p->warning.empty());
      auto again = parse_value(o, to_text(o, p->result));
      REQUIRE(again);
      CHECK(again->result == p->result);
    }
  }
}

TEST_CASE("defaults are those of the contract", "[config][options]") {
  settings s;
  CHECK(s.text("inference_address") == "http://127.0.0.1:8080");
  CHECK(s.integer("option.max_rolling_batch_size") == 32);
  CHECK(s.integer("job_queue_size") == 1000);
  CHECK(s.integer("max_request_size") == 67108864);
  CHECK(s.duration("option.predict_timeout") == 120s);
  CHECK(s.duration("option.model_loading_timeout") == 240s);
  CHECK(s.duration("chunked_read_timeout") == 120s);
  CHECK(s.text("option.rolling_batch") == "auto");
  CHECK(s.text("option.decoding_strategy") == "greedy");
  CHECK(s.text("request_id_header_key") == "x-request-id");
  CHECK(s.integer("bad_request_http_code") == 400);
  CHECK(s.integer("throttle_error_http_code") == 503);
  CHECK(!s.boolean("option.tgi_compat"));
  CHECK(!s.has("option.openai_finish_reasons"));
  CHECK(!s.has("option.dtype"));
  CHECK(s.text("option.dtype").empty());
  CHECK(s.origin_of("option.dtype").where == "default");
}

TEST_CASE("booleans and words may be written in any case", "[config][options]") {
  CHECK(with("option.tgi_compat", "TRUE").boolean("option.tgi_compat"));
  CHECK(!with("prometheus", " False ").boolean("prometheus"));
  CHECK(with("option.dtype", "BF16").text("option.dtype") == "bf16");
  CHECK(with("option.dtype", "Float32").text("option.dtype") == "fp32");
  CHECK(with("option.decoding_strategy", "sampling").text("option.decoding_strategy") == "sample");
  CHECK(with("option.tensor_parallel_degree", "MAX").integer("option.tensor_parallel_degree") ==
        -1);
  CHECK(with("option.cpu_threads", "auto").integer("option.cpu_threads") == 0);
  CHECK(error_of("prometheus", "yes").find("true or false") != std::string::npos);
}

TEST_CASE("whole numbers must parse and lie in their range", "[config][options]") {
  CHECK(with("port", "0").integer("port") == 0);
  CHECK(with("port", "65534").integer("port") == 65534);
  CHECK(with("option.max_rolling_batch_size", "+8").integer("option.max_rolling_batch_size") == 8);
  for (auto bad :
       {"65535", "-1", "80x", "8.0", "", " ", "0x50", "99999999999999999999", "+-1", "+"})
    CHECK(error_of("port", bad).find("a whole number from 0 to 65534") != std::string::npos);
  CHECK(error_of("option.tensor_parallel_degree", "0").find("or max") != std::string::npos);
}

TEST_CASE("a number out of a list must be one of it", "[config][options]") {
  CHECK(with("option.kv_block_tokens", "32").integer("option.kv_block_tokens") == 32);
  CHECK(settings{}.integer("option.kv_block_tokens") == 16);
  CHECK(error_of("option.kv_block_tokens", "24").find("one of 8, 16, 32") != std::string::npos);
  error_of("option.kv_block_tokens", "1");
}

TEST_CASE("bytes take suffixes", "[config][options]") {
  auto bytes = [](std::string_view text) {
    return with("option.kv_cache_bytes", text).integer("option.kv_cache_bytes");
  };
  CHECK(bytes("1000") == 1000);
  CHECK(bytes("64K") == 65536);
  CHECK(bytes("64 MiB") == 67108864);
  CHECK(bytes("3gb") == 3LL << 30);
  CHECK(bytes("1T") == 1LL << 40);
  CHECK(bytes("auto") == 0);
  for (auto bad : {"0", "-1", "1.5G", "1X", "1Kx", "G", "9000000T", "99999999999999999999"})
    CHECK(error_of("option.kv_cache_bytes", bad).find("number of bytes") != std::string::npos);
}

TEST_CASE("seconds are kept to the millisecond", "[config][options]") {
  CHECK(with("drain_timeout", "0.25").duration("drain_timeout") == 250ms);
  CHECK(with("drain_timeout", "0").duration("drain_timeout") == 0ms);
  CHECK(with("option.predict_timeout", "240").duration("option.predict_timeout") == 240s);
  for (auto bad : {"nan", "inf", "-1", "1e9", "5s", ""})
    CHECK(error_of("drain_timeout", bad).find("seconds from 0 to 86400") != std::string::npos);
}

TEST_CASE("a list holds quoted texts", "[config][options]") {
  auto list = [](std::string_view text) {
    return with("option.stop_sequence", text).list("option.stop_sequence");
  };
  using texts = std::vector<std::string>;
  CHECK(list(R"(["a", "b, c"])") == texts{"a", "b, c"});
  CHECK(list(R"(['a','"'])") == texts{"a", "\""});
  CHECK(list(R"(["\"\\\n"])") == texts{"\"\\\n"});
  CHECK(list("[a, b]") == texts{"a", "b"});
  CHECK(list("[]").empty());
  for (auto bad : {"a", "[", "[\"a]", "[\"a\" \"b\"]", "[,]", "[\"\"]"})
    CHECK(error_of("option.stop_sequence", bad).find("a list such as") != std::string::npos);
  auto& o = *find_option("option.stop_sequence");
  auto p = parse_value(o, R"(["a\"", 'b\\'])");
  REQUIRE(p);
  auto again = parse_value(o, to_text(o, p->result));
  REQUIRE(again);
  CHECK(again->result == p->result);
}

TEST_CASE("text that is not UTF-8 is refused and quoted harmlessly", "[config][options]") {
  for (std::string bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xe4\xb8"}) {
    auto text = error_of("option.model_id", bad);
    CHECK(text.find('\xff') == std::string::npos);
    CHECK(text.find("\\x") != std::string::npos);
  }
  CHECK(error_of("log_level", std::string(1000, 'x')).size() < 250);
  CHECK(error_of("log_level", "a\nb").find("a\\x0ab") != std::string::npos);
}

TEST_CASE("names of other batching backends are taken as scheduler with a warning",
          "[config][options]") {
  auto& o = *find_option("option.rolling_batch");
  for (auto name : {"lmi-dist", "vllm", "trtllm", "TNX"}) {
    auto p = parse_value(o, name);
    REQUIRE(p);
    CHECK(std::get<std::string>(p->result) == "scheduler");
    CHECK(p->warning.find("taken as scheduler") != std::string::npos);
  }
  CHECK(parse_value(o, "scheduler")->warning.empty());
  CHECK(allowed(o) == "one of auto, scheduler, disable");
  CHECK(error_of("option.rolling_batch", "neuron").find(allowed(o)) != std::string::npos);
}

TEST_CASE("a misspelt key finds its neighbour", "[config][options]") {
  CHECK(nearest_key("option.dtpye") == "option.dtype");
  CHECK(nearest_key("dtype") == "option.dtype");
  CHECK(nearest_key("option.job_queue_size") == "job_queue_size");
  CHECK(nearest_key("OPTION.Max_Rolling_Batchsize") == "option.max_rolling_batch_size");
  CHECK(nearest_key("prot") == "port");
  CHECK(nearest_key("option.completely_different").empty());
  CHECK(nearest_key("").empty());
  CHECK(nearest_key(std::string(100000, 'x')).empty());
  CHECK(error_of("option.dtpye", "fp32").find("did you mean option.dtype?") != std::string::npos);
}

TEST_CASE("variables follow from keys", "[config][options]") {
  CHECK(variable_of(*find_option("port")) == "SERVING_PORT");
  CHECK(variable_of(*find_option("job_queue_size")) == "SERVING_JOB_QUEUE_SIZE");
  CHECK(variable_of(*find_option("option.dtype")) == "OPTION_DTYPE");
  CHECK(variable_of(*find_option("option.entryPoint")) == "OPTION_ENTRYPOINT");
  CHECK(variable_of(*find_option("engine")) == "OPTION_ENGINE");
}
