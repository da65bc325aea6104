#include <catch2/catch.hpp>

#include "life.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

class requests : public test::life {
public:
  requests() { start(); }

  /// Lets the model write `text` and then nothing but dots.
  void script(std::string text) {
    model->next = [text](const std::vector<int32_t>& history, uint32_t prompt_length) {
      auto i = history.size() - prompt_length;
      return i < text.size() ? static_cast<int32_t>(static_cast<unsigned char>(text[i])) : '.';
    };
  }
};

} // namespace

TEST_CASE_METHOD(requests, "a stop string ends the stream and frees its KV", "[actors][request]") {
  script("one\nStop here");
  auto r = request("x", 100);
  r.params.stop = {"\nStop"};
  auto seen = generate(r);
  REQUIRE(seen->ends().size() == 1);
  CHECK(seen->ends()[0].reason == finish_reason::stop_sequence);
  CHECK(seen->ends()[0].generated_text == "one");
  CHECK(seen->text() == "one");
  CHECK(seen->tokens().size() == 8);
  CHECK(numbers().blocks_used.value() == 0);
  CHECK(numbers().running.value() == 0);
  CHECK(numbers().ended(telemetry::outcome::stop_sequence).value() == 1);
}

TEST_CASE_METHOD(requests, "eos ends a request unless it is ignored", "[actors][request]") {
  model->next = [](const std::vector<int32_t>& history, uint32_t prompt_length) {
    return history.size() - prompt_length == 3 ? 257 : 'a';
  };
  auto r = request("x", 10);
  r.params.ignore_eos = false;
  auto seen = generate(r);
  CHECK(seen->ends().at(0).reason == finish_reason::eos_token);
  CHECK(seen->ends().at(0).generated_text == "aaa");
  CHECK(seen->ends().at(0).generated_tokens == 4);
  CHECK(seen->tokens().back().token.special);
  CHECK(seen->tokens().back().token.text.empty());
  r.params.ignore_eos = true;
  CHECK(generate(r)->ends().at(0).generated_text == "aaaaaaaaa");
}

TEST_CASE_METHOD(requests, "the answer ends where the context does", "[actors][request]") {
  auto r = request(std::string(500, 'p'), -1);
  auto seen = generate(r);
  CHECK(seen->ends().at(0).reason == finish_reason::length);
  CHECK(seen->tokens().size() == 12);
  r.params.max_new_tokens = 100;
  CHECK(generate(r)->tokens().size() == 12);
}

TEST_CASE_METHOD(requests, "a prompt that fills the context is refused with both numbers",
                 "[actors][request]") {
  auto exact = generate(request(std::string(512, 'p'), 1));
  CHECK(is(exact->failure(), ec::prompt_too_long));
  CHECK(text_of(exact->failure()).find("512 tokens) is too long and exceeds limit of 512") !=
        std::string::npos);
  auto r = request("", 1);
  r.input.kind = prompt_kind::tokens;
  r.input.tokens.assign(600, 'a');
  auto tokens = generate(r);
  CHECK(text_of(tokens->failure()) ==
        "Input prompt (600 tokens) is too long and exceeds limit of 512");
  CHECK(generate(request(std::string(511, 'p'), 1))->complete());
}

TEST_CASE_METHOD(requests, "truncating keeps the end of the prompt", "[actors][request]") {
  std::vector<int32_t> fed;
  model->next = [&](const std::vector<int32_t>& history, uint32_t) {
    fed = history;
    return 'a';
  };
  auto r = request(std::string(3000, 'p') + "end", 1);
  r.params.truncate = 4;
  CHECK(generate(r)->complete());
  CHECK(fed == std::vector<int32_t>{'p', 'e', 'n', 'd'});
  // Far more text than is kept: only its end is encoded.
  std::string page;
  while (page.size() < 200'000)
    page += "word ";
  r.input.text = page + "end";
  CHECK(generate(r)->complete());
  CHECK(fed == std::vector<int32_t>{' ', 'e', 'n', 'd'});
}

TEST_CASE_METHOD(requests, "a cached prefix is encoded apart and put in front",
                 "[actors][request]") {
  std::vector<int32_t> fed;
  model->next = [&](const std::vector<int32_t>& history, uint32_t) {
    fed = history;
    return 'a';
  };
  auto r = request("end", 1);
  r.input.cached_prefix = "pre";
  auto seen = generate(r);
  CHECK(fed == std::vector<int32_t>{'p', 'r', 'e', 'e', 'n', 'd'});
  CHECK(seen->prompts().at(0).token_count == 6);
}

TEST_CASE_METHOD(requests, "tokens taken from the prefix cache are told", "[actors][request]") {
  auto r = request(std::string(40, 'p'), 2);
  CHECK(generate(r)->prompts().at(0).cached_tokens == 0);
  CHECK(generate(r)->prompts().at(0).cached_tokens == 32);
  CHECK(numbers().cached_tokens.value() == 32);
  CHECK(numbers().prompt_tokens.value() == 80);
}

TEST_CASE_METHOD(requests, "prompt log-probabilities start with the second token",
                 "[actors][request]") {
  auto r = request("abc", 2);
  r.params.prompt_logprobs = true;
  r.params.prompt_top_n = 1;
  r.params.top_n = 2;
  auto seen = generate(r);
  auto prompt = seen->prompts().at(0);
  REQUIRE(prompt.tokens.size() == 3);
  CHECK(prompt.tokens[0].text == "a");
  CHECK(!prompt.tokens[0].has_logprob);
  CHECK(prompt.tokens[1].logprob == -1.0f);
  CHECK(prompt.tokens[2].logprob == -2.0f);
  REQUIRE(prompt.top.size() == 3);
  CHECK(prompt.top[0].empty());
  CHECK(prompt.top[1].at(0).text == "b");
  CHECK(seen->tokens().at(0).top.size() == 2);
  CHECK(seen->batches.at(0).tokens.size() == 1); // The prompt comes with the first token.
}

TEST_CASE_METHOD(requests, "the best choices are kept, the best first", "[actors][request]") {
  model->logprob = [](const sampling_params& s) {
    const float by_index[] = {-3, -1, -4, -2};
    return by_index[s.sequence_index];
  };
  auto r = request("abc", 4);
  r.params.stream = false;
  r.params.n = 2;
  r.params.best_of = 4;
  r.params.sampling.sample = true;
  auto seen = generate(r);
  CHECK(seen->complete());
  REQUIRE(seen->ends().size() == 2);
  CHECK(seen->ends()[0].choice == 0);
  CHECK(seen->ends()[1].choice == 1);
  CHECK(seen->ends()[0].cumulative_logprob == -4);
  CHECK(seen->ends()[1].cumulative_logprob == -8);
  CHECK(seen->tokens(0).size() == 4);
  CHECK(seen->tokens(1).size() == 4);
  CHECK(seen->tokens(2).empty());
  CHECK(numbers().blocks_used.value() == 0);
}

TEST_CASE_METHOD(requests, "choices that are all kept have the numbers that they have in a stream",
                 "[actors][request]") {
  model->logprob = [](const sampling_params& s) {
    const float by_index[] = {-3, -1, -2};
    return by_index[s.sequence_index];
  };
  for (bool stream : {false, true}) {
    auto r = request("abc", 4);
    r.params.stream = stream;
    r.params.n = r.params.best_of = 3;
    r.params.sampling.sample = true;
    auto seen = generate(r);
    REQUIRE(seen->ends().size() == 3);
    for (const auto& end : seen->ends())
      CHECK(end.cumulative_logprob == std::vector<double>{-12, -4, -8}.at(end.choice));
  }
}

TEST_CASE_METHOD(requests, "streamed choices keep their numbers", "[actors][request]") {
  auto r = request("abc", 4);
  r.params.n = r.params.best_of = 3;
  r.params.prompt_logprobs = true;
  auto seen = generate(r);
  CHECK(seen->complete());
  CHECK(seen->ends().size() == 3);
  CHECK(seen->prompts().size() == 1);
  CHECK(!seen->batches.front().prompt.empty());
  for (uint32_t i = 0; i < 3; ++i)
    CHECK(seen->tokens(i).size() == 4);
}

TEST_CASE_METHOD(requests, "a chat is rendered by the model's template", "[actors][request]") {
  std::vector<int32_t> fed;
  model->next = [&](const std::vector<int32_t>& history, uint32_t) {
    fed = history;
    return 'a';
  };
  auto r = request(R"({"messages":[{"role":"user","content":"hi"}]})", 1);
  r.input.kind = prompt_kind::chat;
  CHECK(generate(r)->complete());
  CHECK(fed.front() == 256);
  r.input.text = R"({"messages":[]})";
  CHECK(is(generate(r)->failure(), ec::invalid_request));
  r.input.text = R"([1])";
  CHECK(is(generate(r)->failure(), ec::invalid_request));
  r.input.text = R"({"messages":[{"role":"user","content":"hi"}]})";
  r.input.chat_template = "{{ 1 }}";
  CHECK(is(generate(r)->failure(), ec::invalid_request));
}

TEST_CASE_METHOD(requests, "what a request asks for is checked by name", "[actors][request]") {
  auto refused = [&](auto change) {
    auto r = request("abc", 4);
    change(r);
    auto seen = generate(r);
    CHECK(seen->terminals() == 1);
    CHECK(is(seen->failure(), ec::invalid_request));
    return text_of(seen->failure());
  };
  CHECK(refused([](auto& r) { r.params.max_new_tokens = 0; }).find("max_new_tokens") == 0);
  CHECK(refused([](auto& r) { r.params.n = 0; }).find("n must") == 0);
  CHECK(refused([](auto& r) { r.params.n = 2; }).find("best_of") == 0);
  CHECK(refused([](auto& r) { r.params.best_of = 2; }).find("best_of") == 0);
  CHECK(refused([](auto& r) { r.params.best_of = 100'000; }).find("best_of") == 0);
  CHECK(refused([](auto& r) { r.params.stop = {""}; }).find("stop") == 0);
  CHECK(refused([](auto& r) { r.params.stop = {std::string(70'000, 'x')}; }).find("stop") == 0);
  CHECK(refused([](auto& r) { r.params.sampling.top_p = 2; }).find("top_p") == 0);
  CHECK(refused([](auto& r) { r.input.text.clear(); }).find("the prompt is empty") == 0);
  CHECK(refused([](auto& r) {
          r.input.kind = prompt_kind::tokens;
          r.input.tokens = {'a', 259};
        }).find("prompt token 259 at position 1") == 0);
  CHECK(refused([](auto& r) {
          r.input.kind = prompt_kind::tokens;
          r.input.tokens = {-1};
        }).find("prompt token -1") == 0);
  CHECK(refused([](auto& r) { r.input.text = "\xff\xfe"; }).find("UTF-8") != std::string::npos);
  CHECK(numbers().ended(telemetry::outcome::invalid).value() == 12);
  CHECK(status().queued == 0);
}

TEST_CASE_METHOD(requests, "a reader that grants nothing is parked and later ended",
                 "[actors][request]") {
  auto r = request("abc", 500);
  r.input.text = std::string(8, 'p');
  r.params.top_n = 40; // Makes events heavy enough for the test's short context.
  r.read_timeout_ms = 1000;
  auto seen = put(r, false);
  run();
  REQUIRE(!seen->complete());
  auto told = seen->tokens().size();
  CHECK(seen->weight() > initial_credit);
  CHECK(seen->weight() < 2 * initial_credit);
  CHECK(numbers().parked.value() == 1);
  CHECK(numbers().blocks_used.value() > 0); // Parked, so its KV is kept.

  SECTION("its KV is freed when it has not read for long enough") {
    advance(999ms);
    CHECK(!seen->failure());
    advance(2ms);
    CHECK(is(seen->failure(), ec::slow_reader));
    CHECK(seen->tokens().size() == told);
    CHECK(numbers().blocks_used.value() == 0);
    CHECK(numbers().ended(telemetry::outcome::cancelled).value() == 1);
  }
  SECTION("each sign of life starts the time anew") {
    advance(900ms);
    caf::anon_send(seen->request, credit_atom_v, uint32_t{1000});
    run();
    advance(900ms);
    CHECK(!seen->failure());
    CHECK(seen->tokens().size() == told);
    advance(102ms);
    CHECK(is(seen->failure(), ec::slow_reader));
  }
  SECTION("it goes on as soon as half of the credit is back") {
    caf::anon_send(seen->request, credit_atom_v, uint32_t{initial_credit / 4});
    run();
    CHECK(seen->tokens().size() == told);
    seen->grants = true;
    caf::anon_send(seen->request, credit_atom_v, static_cast<uint32_t>(seen->weight()));
    run();
    CHECK(seen->complete());
    CHECK(seen->tokens().size() == 500);
    advance(2s); // A timer from before means nothing any more.
    CHECK(seen->terminals() == 1);
  }
  SECTION("neighbours do not notice") {
    CHECK(generate(request("other", 20))->tokens().size() == 20);
  }
}

TEST_CASE_METHOD(requests, "a client that leaves frees its slot and its KV", "[actors][request]") {
  auto seen = put(request("abc", 400));
  run_until([&] { return seen->tokens().size() == 5; });
  REQUIRE(numbers().blocks_used.value() > 0);
  auto steps = numbers().steps.value();
  SECTION("its sink dies") {
    caf::anon_send_exit(sinks.back(), caf::exit_reason::kill);
    run();
    CHECK(seen->terminals() == 0);
  }
  SECTION("it cancels") {
    caf::anon_send(seen->request, cancel_atom_v);
    run();
    CHECK(is(seen->failure(), ec::cancelled));
    CHECK(seen->terminals() == 1);
  }
  CHECK(numbers().blocks_used.value() == 0);
  CHECK(numbers().running.value() == 0);
  CHECK(numbers().steps.value() <= steps + 3);
  CHECK(status().queued == 0);
  CHECK(numbers().ended(telemetry::outcome::cancelled).value() == 1);
}

TEST_CASE_METHOD(requests, "a client that leaves while it is encoded costs no step",
                 "[actors][request]") {
  auto seen = put(request("abc", 400));
  run_until([&] { return seen->request != nullptr; });
  caf::anon_send_exit(sinks.back(), caf::exit_reason::kill);
  run();
  CHECK(numbers().generated_tokens.value() <= 1);
  CHECK(numbers().blocks_used.value() == 0);
  CHECK(status().queued == 0);
}

TEST_CASE_METHOD(requests, "a deadline ends a request wherever it is", "[actors][request]") {
  auto r = request("abc", 500);
  r.deadline_ms = 300;
  auto other = request("abc", 5);
  other.deadline_ms = 100;
  auto seen = put(r);
  run_until([&] { return seen->tokens().size() == 5; });
  auto quick = put(other);
  run_until([&] { return quick->complete(); });
  auto& coordinator = dynamic_cast<caf::scheduler::test_coordinator&>(sys.scheduler());
  coordinator.advance_time(299ms);
  auto before = seen->tokens().size();
  run_until([&] { return seen->tokens().size() > before; });
  CHECK(!seen->failure());
  coordinator.advance_time(2ms);
  run();
  CHECK(is(seen->failure(), ec::request_timeout));
  CHECK(quick->terminals() == 1);
  CHECK(numbers().blocks_used.value() == 0);
  CHECK(numbers().ended(telemetry::outcome::timeout).value() == 1);
}

TEST_CASE_METHOD(requests, "no free slot within its time ends a waiting request",
                 "[actors][request]") {
  spec.name = "narrow";
  spec.load.max_sequences = 1;
  REQUIRE(load(spec));
  auto r = request("abc", 400);
  r.model = "narrow";
  auto first = put(r);
  run_until([&] { return first->tokens().size() == 2; });
  r.slot_timeout_ms = 100;
  auto second = put(r);
  run_until([&] { return second->request != nullptr && first->tokens().size() == 10; });
  dynamic_cast<caf::scheduler::test_coordinator&>(sys.scheduler()).advance_time(101ms);
  run();
  CHECK(is(second->failure(), ec::slot_timeout));
  CHECK(first->complete());
}

TEST_CASE_METHOD(requests, "a full queue refuses at once", "[actors][request]") {
  spec.name = "narrow";
  spec.load.max_sequences = 1;
  spec.queue_limit = 1;
  REQUIRE(load(spec));
  auto r = request("abc", 50);
  r.model = "narrow";
  auto running = put(r);
  auto waiting = put(r);
  auto third = put(r);
  run_until([&] { return !third->batches.empty(); });
  CHECK(is(third->failure(), ec::queue_full));
  CHECK(running->tokens().size() < 50);
  run();
  CHECK(running->complete());
  CHECK(waiting->complete());
  CHECK(generate(r)->complete());
  CHECK(numbers().blocks_used.value() == 0);
}

TEST_CASE_METHOD(requests, "a request that can never fit the KV cache is refused",
                 "[actors][request]") {
  spec.name = "tiny";
  model->kv_blocks = 2;
  REQUIRE(load(spec));
  auto r = request(std::string(40, 'p'), 4);
  r.model = "tiny";
  auto seen = generate(r);
  CHECK(is(seen->failure(), ec::prompt_too_long));
  r.input.text = std::string(20, 'p');
  r.params.max_new_tokens = 100;
  auto fits = generate(r);
  CHECK(fits->complete());
  CHECK(fits->tokens().size() == 12); // The cache is the context then.
}

TEST_CASE_METHOD(requests, "every message counted as sent to a request is counted as handled",
                 "[actors][request]") {
  auto stopped = request("abc", 100);
  script("some text. And more");
  stopped.params.stop = {"."};
  CHECK(generate(stopped)->complete());
  CHECK(generate(request("abc", 30))->complete());
  auto cancelled = put(request("abc", 100), false);
  run_until([&] { return cancelled->tokens().size() == 5; });
  caf::anon_send(cancelled->request, cancel_atom_v);
  run();
  // Credit and cancellation for requests that have left are nobody's to handle.
  for (const auto& seen : {cancelled, generate(request("abc", 3))}) {
    caf::anon_send(seen->request, credit_atom_v, 10u);
    caf::anon_send(seen->request, cancel_atom_v);
  }
  run();
  auto& box = metrics->actor(telemetry::actor_kind::request);
  CHECK(box.handled.value() > 10 + 30 + 5);
  CHECK(box.handled.value() == box.sent.value());
  for (auto kind : {telemetry::actor_kind::scheduler, telemetry::actor_kind::shard,
                    telemetry::actor_kind::tokenizer, telemetry::actor_kind::supervisor,
                    telemetry::actor_kind::sink}) {
    INFO(telemetry::to_string_view(kind));
    CHECK(metrics->actor(kind).handled.value() == metrics->actor(kind).sent.value());
  }
}
