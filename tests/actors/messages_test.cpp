#include <catch2/catch.hpp>

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

#include "stage.hpp"

using namespace troupe;

namespace {

class wire : public test::stage {
public:
  template <class T>
  T round_trip(const T& x) {
    auto copy = x;
    std::vector<char> bytes;
    caf::binary_serializer out{sys, bytes};
    REQUIRE(!out(copy));
    T y;
    caf::binary_deserializer in{sys, bytes};
    REQUIRE(!in(y));
    CHECK(in.remaining() == 0);
    return y;
  }

  /// Every field of `x` differs from its default, so a field that `inspect` forgets shows in the
  /// comparison the caller makes; the rest is compared as text.
  template <class T>
  void survives(const T& x) {
    CHECK(caf::deep_to_string(round_trip(x)) == caf::deep_to_string(x));
  }
};

token_text sample_token() {
  token_text t;
  t.id = 5;
  t.text = "\xc3\xa4";
  t.bytes = std::string("\xc3\x00", 2);
  t.logprob = -1.5f;
  t.has_logprob = false;
  t.special = true;
  return t;
}

} // namespace

TEST_CASE_METHOD(wire, "a generation request survives the wire", "[actors][messages]") {
  generation_request r;
  r.id = "id";
  r.model = "m";
  r.input.kind = prompt_kind::chat;
  r.input.text = "text";
  r.input.tokens = {1, 2};
  r.input.cached_prefix = "prefix";
  r.input.add_special_tokens = false;
  r.input.add_generation_prompt = false;
  r.input.chat_template = "{{ x }}";
  r.params.max_new_tokens = 7;
  r.params.sampling.seed = 1ull << 63;
  r.params.n = 2;
  r.params.best_of = 3;
  r.params.stop = {"a", "b"};
  r.params.stop_tokens = {4};
  r.params.ignore_eos = true;
  r.params.include_stop = true;
  r.params.skip_special_tokens = false;
  r.params.top_n = 5;
  r.params.prompt_logprobs = true;
  r.params.prompt_top_n = 6;
  r.params.truncate = 8;
  r.params.token_bytes = true;
  r.params.stream = true;
  r.params.search = {search_kind::beams, 4, 3, 0.75, early_stopping::yes, 0.5f, true};
  r.params.max_length = 12;
  r.params.max_time_ms = 13;
  r.params.eos_tokens = {14};
  r.priority = 1;
  r.turn = 1ull << 40;
  r.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  r.slot_timeout_ms = 9;
  r.deadline_ms = 10;
  r.read_timeout_ms = 11;
  survives(r);
  auto y = round_trip(r);
  CHECK(y.input.kind == prompt_kind::chat);
  CHECK(y.input.cached_prefix == "prefix");
  CHECK(!y.input.add_special_tokens);
  CHECK(!y.input.add_generation_prompt);
  CHECK(y.input.chat_template == "{{ x }}");
  CHECK(y.params.sampling == r.params.sampling);
  CHECK(y.params.best_of == 3);
  CHECK(y.params.stop == r.params.stop);
  CHECK(y.params.stop_tokens == r.params.stop_tokens);
  CHECK(y.params.ignore_eos);
  CHECK(y.params.include_stop);
  CHECK(!y.params.skip_special_tokens);
  CHECK(y.params.prompt_top_n == 6);
  CHECK(y.params.truncate == 8);
  CHECK(y.params.token_bytes);
  CHECK(y.params.stream);
  CHECK(y.params.search == r.params.search);
  CHECK(y.params.max_length == 12);
  CHECK(y.params.max_time_ms == 13);
  CHECK(y.params.eos_tokens == r.params.eos_tokens);
  CHECK(y.deadline_ms == 10);
  CHECK(y.read_timeout_ms == 11);
  CHECK(y.turn == r.turn);
  CHECK(y.traceparent == r.traceparent);
}

TEST_CASE_METHOD(wire, "a batch of events survives the wire, its error too", "[actors][messages]") {
  event_batch b;
  b.prompt.push_back({3, 2, {sample_token()}, {{sample_token()}, {}}});
  b.tokens.push_back({1, sample_token(), {sample_token(), sample_token()}});
  b.ends.push_back({1, finish_reason::stop_sequence, "tail", "whole", 9, -3.25});
  b.complete = true;
  b.failure = caf::make_error(ec::prompt_too_long, std::string{"why"});
  b.weight = 77;
  auto y = round_trip(b);
  CHECK(caf::deep_to_string(y) == caf::deep_to_string(b));
  REQUIRE(y.prompt.size() == 1);
  CHECK(y.prompt[0].cached_tokens == 2);
  CHECK(y.prompt[0].top.size() == 2);
  REQUIRE(y.tokens.size() == 1);
  CHECK(y.tokens[0].choice == 1);
  CHECK(y.tokens[0].token.bytes == sample_token().bytes);
  CHECK(!y.tokens[0].token.has_logprob);
  CHECK(y.tokens[0].token.special);
  REQUIRE(y.ends.size() == 1);
  CHECK(y.ends[0].reason == finish_reason::stop_sequence);
  CHECK(y.ends[0].tail == "tail");
  CHECK(y.ends[0].cumulative_logprob == -3.25);
  CHECK(y.complete);
  CHECK(code_of(y.failure) == ec::prompt_too_long);
  CHECK(text_of(y.failure) == "why");
  CHECK(y.weight == 77);
}

TEST_CASE_METHOD(wire, "what is asked of models survives the wire", "[actors][messages]") {
  tokenize_request t;
  t.model = "m";
  t.input.text = "x";
  CHECK(round_trip(t).input.text == "x");
  survives(t);
  survives(tokenize_answer{{1, 2}, 3});
  CHECK(round_trip(tokenize_answer{{1, 2}, 3}).max_model_len == 3);
  survives(detokenize_request{"m", {1, 2}, "v"});
  CHECK(round_trip(detokenize_request{"m", {1}, "v"}).version == "v");
  encode_job job;
  job.input.text = "x";
  job.truncate = 1;
  job.context = 2;
  CHECK(round_trip(job).context == 2);
  CHECK(round_trip(encoded_prompt{{1}, "t"}).text == "t");

  model_spec s;
  s.name = "m";
  s.load.folder = "/models/m";
  s.load.dummy = true;
  s.load.dtype = "bf16";
  s.load.shards = 2;
  s.load.cpu_threads = 3;
  s.load.max_model_len = 4;
  s.load.kv_block_tokens = 5;
  s.load.kv_cache_bytes = 6;
  s.load.max_sequences = 7;
  s.load.max_step_tokens = 8;
  s.load.random_seed = 9;
  s.queue_limit = 10;
  s.tokenizer_threads = 11;
  s.retry_threshold = 12;
  s.loading_timeout_ms = 13;
  s.trust_request_template = true;
  s.prefix_cache = false;
  s.registered = {"v", "file:///m", false, 2, 3, 4, 5, 6, 7, 8, true, {{1, 2, 3}}, true, 9, 10, 11};
  s.call_batch = 21;
  s.call_delay_ms = 22;
  survives(s);
  auto y = round_trip(s);
  CHECK(y.load.folder == "/models/m");
  CHECK(y.load.dummy);
  CHECK(y.load.random_seed == 9);
  CHECK(y.retry_threshold == 12);
  CHECK(y.trust_request_template);
  CHECK(!y.prefix_cache);
  CHECK(y.registered.version == "v");
  CHECK(!y.registered.at_startup);
  CHECK(y.registered.on_devices.at(0).max == 3);
  CHECK(y.registered.required_bytes == 11);
  CHECK(y.call_batch == 21);
  CHECK(y.call_delay_ms == 22);

  model_status status{"m", "/f", "A", model_state::reloading, "why", 1, 2, 3, 4, 0.5, 6, true};
  status.queue_limit = 7;
  status.groups.push_back({0, {0, 1}, 1, 2, {{3, 4, worker_state::unloading}}});
  CHECK(round_trip(status).groups.at(0).workers.at(0).id == 3);
  survives(worker_scaling{"m", "v", 1, 2, {0}});
  CHECK(round_trip(worker_scaling{"m", "v", 1, 2, {0}}).max == 2);
  replica_report told;
  told.who = "shard 0";
  told.phase = replica_phase::lost;
  told.problem = caf::make_error(ec::device_lost, std::string{"gone"});
  survives(told);
  CHECK(round_trip(told).who == "shard 0");
  model_route route{"m", "v", {}, true, false, ec::no_workers};
  CHECK(round_trip(route).refusal == ec::no_workers);
  survives(status);
  CHECK(round_trip(status).state == model_state::reloading);
  CHECK(round_trip(status).has_chat_template);
  CHECK(round_trip(std::vector<model_status>{status, status}).size() == 2);
}

TEST_CASE("states and reasons have their wire words", "[actors][messages]") {
  CHECK(to_string_view(finish_reason::length) == "length");
  CHECK(to_string_view(finish_reason::eos_token) == "eos_token");
  CHECK(to_string_view(finish_reason::stop_sequence) == "stop_sequence");
  CHECK(to_string_view(finish_reason::error) == "error");
  CHECK(to_string_view(model_state::ready) == "ready");
  CHECK(to_string_view(model_state::failed) == "failed");
  CHECK(to_string_view(model_state::stopped) == "stopped");
}
