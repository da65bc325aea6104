#include <catch2/catch.hpp>

#include "troupe/actors/memory_ledger.hpp"
#include "troupe/actors/model.hpp"
#include "troupe/actors/request_plan.hpp"
#include "troupe/models/tokenizer/byte_tokenizer.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

text_tools bytes_tools() {
  return {byte_tokenizer(), byte_chat_template(), false};
}

encode_job text_job(std::string text) {
  encode_job job;
  job.input.text = std::move(text);
  return job;
}

} // namespace

TEST_CASE("the ledger adds up what models hold of a device", "[actors][memory_ledger]") {
  memory_ledger ledger;
  ledger.set_capacity("cpu", 100);
  CHECK(!ledger.reserve("cpu", "a", 30, 20));
  CHECK(ledger.reserved("cpu") == 50);
  auto refused = ledger.reserve("cpu", "b", 40, 20);
  CHECK(is(refused, ec::out_of_memory));
  CHECK(text_of(refused).find("model 'b' needs") == 0);
  CHECK(ledger.reserved("cpu") == 50);
  // A model that loads anew replaces its own reservation.
  CHECK(!ledger.reserve("cpu", "a", 90, 10));
  CHECK(ledger.reserved("cpu") == 100);
  CHECK(is(ledger.reserve("cpu", "a", 90, 11), ec::out_of_memory));
  CHECK(ledger.reserved("cpu") == 100);
  ledger.release("a");
  CHECK(ledger.reserved("cpu") == 0);
  CHECK(is(ledger.reserve("gpu0", "a", 1, 0), ec::out_of_memory));
  CHECK(usable_memory() > 0);
}

TEST_CASE("the wait before a reload doubles up to its limit", "[actors][model]") {
  CHECK(backoff_after(1, 500ms, 30s) == 500ms);
  CHECK(backoff_after(2, 500ms, 30s) == 1s);
  CHECK(backoff_after(4, 500ms, 30s) == 4s);
  CHECK(backoff_after(7, 500ms, 30s) == 30s);
  CHECK(backoff_after(4'000'000'000u, 500ms, 30s) == 30s);
}

TEST_CASE("text that cannot fit is refused before it is encoded", "[actors][tokenizer]") {
  auto job = text_job(std::string(10'000, 'x'));
  CHECK(encode_prompt(bytes_tools(), job)->tokens.size() == 10'000);
  job.context = 100;
  auto refused = encode_prompt(bytes_tools(), job);
  REQUIRE(!refused);
  CHECK(is(refused.error(), ec::prompt_too_long));
  CHECK(text_of(refused.error()).find("is too long and exceeds limit of 100") != std::string::npos);
  job.truncate = 10;
  CHECK(encode_prompt(bytes_tools(), job)->tokens.size() == 10);
  job = text_job("x");
  job.input.cached_prefix.assign(10'000, 'x');
  job.context = 100;
  CHECK(is(encode_prompt(bytes_tools(), job).error(), ec::prompt_too_long));
}

TEST_CASE("a chat template that refuses a generation prompt is tried without",
          "[actors][tokenizer]") {
  auto tools = bytes_tools();
  auto chat = chat_template::compile("{% if add_generation_prompt %}{{ raise_exception('no') }}{% "
                                     "endif %}{{ messages[0].content }}",
                                     *tools.tok);
  REQUIRE(chat);
  tools.chat = *chat;
  prompt p;
  p.kind = prompt_kind::chat;
  p.text = R"( {"messages": [{"role": "user", "content": "hi"}]})";
  auto text = render_prompt(tools, p);
  REQUIRE(text);
  CHECK(*text == "hi");
  chat = chat_template::compile("{{ raise_exception('never') }}", *tools.tok);
  tools.chat = *chat;
  auto refused = render_prompt(tools, p);
  CHECK(is(refused.error(), ec::template_failed));
  CHECK(text_of(refused.error()).find("never") != std::string::npos);
  tools.chat = nullptr;
  CHECK(is(render_prompt(tools, p).error(), ec::template_failed));
}

TEST_CASE("a request's own template works only where requests are trusted", "[actors][tokenizer]") {
  auto tools = bytes_tools();
  prompt p;
  p.kind = prompt_kind::chat;
  p.text = R"({"messages": [{"role": "user", "content": "hi"}], "tone": "loud"})";
  p.chat_template = "{{ tone }}: {{ messages[0].content }}";
  CHECK(is(render_prompt(tools, p).error(), ec::invalid_request));
  tools.trust_request_template = true;
  auto text = render_prompt(tools, p);
  REQUIRE(text);
  CHECK(*text == "loud: hi");
  p.chat_template = "{% if %}";
  CHECK(is(render_prompt(tools, p).error(), ec::template_failed));
}

TEST_CASE("the pool gives work to whoever has least", "[actors][tokenizer]") {
  std::vector<tokenizer_pool::member> members(3);
  tokenizer_pool pool{members};
  auto backlog = [&](size_t i) { return members[i].bytes->load(); };
  pool.pick(1000);
  pool.pick(1000);
  pool.pick(1000);
  CHECK(backlog(0) == 1000);
  CHECK(backlog(1) == 1000);
  CHECK(backlog(2) == 1000);
  members[1].bytes->fetch_sub(900);
  pool.pick(10);
  pool.pick(10);
  CHECK(backlog(1) == 120);
}

TEST_CASE("a sequence carries what its request asks for", "[actors][request]") {
  models::model_info info;
  info.context = 100;
  info.vocabulary = 300;
  info.eos_tokens = {257, 258};
  info.rope_base_for = [](uint32_t length) { return 1000.0 + length; };
  generation_request r;
  r.params.max_new_tokens = 20;
  r.params.stop_tokens = {5};
  r.params.top_n = 2;
  r.params.prompt_logprobs = true;
  r.params.prompt_top_n = 4;
  r.priority = 1;
  r.slot_timeout_ms = 9;
  auto s = make_sequence(r, info, {1, 2, 3}, 20, 0);
  CHECK(s.stop_tokens == std::vector<int32_t>{5, 257, 258});
  CHECK(s.sampling.eos_tokens == info.eos_tokens);
  CHECK(s.sampling.max_length == 23);
  CHECK(s.wants.prompt_logprobs);
  CHECK(s.wants.top_n == 4);
  CHECK(s.rope_base == 1023.0);
  CHECK(s.priority == 1);
  CHECK(s.slot_timeout_ms == 9);
  r.params.ignore_eos = true;
  s = make_sequence(r, info, {1, 2, 3}, 20, 2);
  CHECK(s.stop_tokens == std::vector<int32_t>{5});
  CHECK(s.sampling.sequence_index == 2);
  CHECK(!s.wants.prompt_logprobs);
  CHECK(s.wants.top_n == 2);
  CHECK(room_for(r.params, 90, info) == 10);
  CHECK(room_for(r.params, 10, info) == 20);
  r.params.max_new_tokens = -1;
  CHECK(room_for(r.params, 10, info) == 90);
  r.input.text = "x";
  r.params.truncate = 100;
  CHECK_FALSE(check_request(r, info));
  r.params.truncate = 101;
  CHECK(is(check_request(r, info), ec::invalid_request));
}
