#include <algorithm>
#include <set>

#include <catch2/catch.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/duration.hpp"
#include "troupe/examples/load_test/load/trace_file.hpp"
#include "troupe/examples/load_test/prompts/prompt_source.hpp"

using namespace troupe::load_test;

namespace {

/// Counts as a byte tokenizer would, with two special tokens and a chat template of 10 more.
class byte_counter final : public token_counter {
public:
  caf::expected<uint32_t> count(const std::string& text) override {
    ++calls;
    return static_cast<uint32_t>(text.size() + 2);
  }
  caf::expected<uint32_t> count_chat(const std::string& text) override {
    ++calls;
    return static_cast<uint32_t>(text.size() + 12);
  }
  std::string name() const override { return "bytes"; }
  int calls = 0;
};

/// One in which texts do not add up.
class odd_counter final : public token_counter {
public:
  caf::expected<uint32_t> count(const std::string& text) override {
    return static_cast<uint32_t>(text.size() * text.size() / 100 + 1);
  }
  caf::expected<uint32_t> count_chat(const std::string& text) override { return count(text); }
  std::string name() const override { return "an odd one"; }
};

synthetic_settings lengths(const char* input, const char* output = "5") {
  synthetic_settings s;
  s.input = parse_lengths(input).value();
  s.output = parse_lengths(output).value();
  return s;
}

const std::string golden = TROUPE_GOLDEN_DIR "/tokenizer/";

} // namespace

TEST_CASE("prompts have exactly the tokens that were asked for", "[examples][load]") {
  for (const char* model : {"llama2", "llama3", "qwen2", "bert", "roberta", "gemma"}) {
    auto counter = open_tokenizer(golden + model);
    REQUIRE(counter);
    auto words = word_table::learn(**counter, false);
    INFO(model);
    REQUIRE(words);
    for (uint32_t n : {40u, 50u, 128u, 1000u}) {
      auto source = make_synthetic(lengths(std::to_string(n).c_str()), *words);
      REQUIRE(source);
      for (uint64_t i = 0; i < 20; ++i) {
        auto p = (*source)->make(i, 0);
        CHECK(p.tokens == n);
        CHECK((*counter)->count(p.messages.at(0).content).value() == n);
      }
    }
  }
}

TEST_CASE("the chat template is counted in", "[examples][load]") {
  byte_counter counter;
  auto words = word_table::learn(counter, true).value();
  auto s = lengths("77");
  s.chat = true;
  auto p = make_synthetic(s, words).value()->make(3, 0);
  CHECK(counter.count_chat(p.messages[0].content) == 77u);
}

TEST_CASE("words are learned once, prompts cost no counting", "[examples][load]") {
  byte_counter counter;
  auto words = word_table::learn(counter, false).value();
  auto learned = counter.calls;
  auto source = make_synthetic(lengths("500"), words).value();
  for (uint64_t i = 0; i < 100; ++i)
    source->make(i, 0);
  CHECK(counter.calls == learned);
}

TEST_CASE("a tokenizer whose words do not add up is told from one whose do", "[examples][load]") {
  odd_counter counter;
  auto words = word_table::learn(counter, false);
  REQUIRE_FALSE(words);
  CHECK(troupe::text_of(words.error()).find("do not add up") != std::string::npos);
}

TEST_CASE("a prompt too short for its template is refused with the next that works",
          "[examples][load]") {
  byte_counter counter;
  auto words = word_table::learn(counter, true).value();
  auto source = make_synthetic(lengths("3"), words);
  REQUIRE_FALSE(source);
  CHECK(troupe::text_of(source.error()).find("is 15") != std::string::npos);
  CHECK(make_synthetic(lengths("15"), words));
  CHECK_FALSE(make_synthetic(lengths("16"), words)); // a space, and no word of no letters
}

TEST_CASE("the same seed gives the same prompts, another one others", "[examples][load]") {
  auto s = lengths("40", "uniform:1:1000");
  s.seed = 5;
  auto a = make_synthetic(s, word_table::approximate()).value();
  auto b = make_synthetic(s, word_table::approximate()).value();
  s.seed = 6;
  auto c = make_synthetic(s, word_table::approximate()).value();
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 200; ++i) {
    auto p = a->make(i, 0);
    CHECK(p.messages[0].content == b->make(i, 0).messages[0].content);
    CHECK(p.output_tokens == b->make(i, 0).output_tokens);
    CHECK(p.messages[0].content != c->make(i, 0).messages[0].content);
    seen.insert(p.messages[0].content);
  }
  CHECK(seen.size() == 200);
}

TEST_CASE("prompts share as much of their begin as was asked for", "[examples][load]") {
  auto s = lengths("uniform:60:100");
  s.shared_prefix = 0.5;
  s.prefix_groups = 2;
  auto source = make_synthetic(s, word_table::approximate()).value();
  auto text = [&](uint64_t i) { return source->make(i, 0).messages[0].content; };
  auto common_words = [](const std::string& a, const std::string& b) {
    size_t words = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()) && a[i] == b[i]; ++i)
      words += a[i] == ' ';
    return words;
  };
  for (uint64_t i = 0; i < 40; i += 2) {
    // Half of the shorter prompt at least, and not much more.
    auto words = [](const std::string& t) { return 1 + std::count(t.begin(), t.end(), ' '); };
    auto shorter = static_cast<size_t>(std::min(words(text(i)), words(text(i + 2))));
    auto shared = common_words(text(i), text(i + 2));
    CHECK(shared + 2 >= shorter / 2);
    CHECK(shared <= shorter / 2 + 4);
    CHECK(common_words(text(i), text(i + 1)) < 5);
  }
}

TEST_CASE("ids share their prefix too, and stay below the vocabulary", "[examples][load]") {
  auto s = lengths("100");
  s.as_ids = true;
  s.vocabulary = 50;
  s.shared_prefix = 0.3;
  auto source = make_synthetic(s, word_table::approximate()).value();
  auto a = source->make(0, 0).ids, b = source->make(1, 0).ids;
  REQUIRE(a.size() == 100);
  CHECK(std::equal(a.begin(), a.begin() + 30, b.begin()));
  CHECK_FALSE(std::equal(a.begin() + 30, a.end(), b.begin() + 30));
  CHECK(*std::max_element(a.begin(), a.end()) < 50);
  CHECK(*std::min_element(a.begin(), a.end()) >= 3);
}

TEST_CASE("a trace's lengths go before those of the command line", "[examples][load]") {
  auto s = lengths("40");
  s.trace = parse_trace("0,17,3\n1,0,0\n", "t").value();
  auto source = make_synthetic(s, word_table::approximate()).value();
  CHECK(source->make(0, 0).output_tokens == 3);
  CHECK(source->make(1, 0).output_tokens == 5);
  auto words = source->make(0, 0).messages[0].content;
  CHECK(std::count(words.begin(), words.end(), ' ') == 16);
}

TEST_CASE("prompt files: text, JSON lines, ShareGPT", "[examples][load]") {
  auto output = parse_lengths("9").value();
  auto read = [&](std::string text) { return parse_prompts(std::move(text), "f", output, 1); };
  auto text = read("first\r\n\nsecond\n").value();
  CHECK(text->make(0, 0).messages[0].content == "first");
  CHECK(text->make(1, 0).messages[0].content == "second");
  CHECK(text->make(2, 0).messages[0].content == "first");
  CHECK(text->make(0, 0).output_tokens == 9);
  auto lines =
      read("{\"prompt\":\"p\",\"output_tokens\":3}\n"
           "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
           "{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"a\"},"
           "{\"role\":\"user\",\"content\":\"v\"}]}\n")
          .value();
  CHECK(lines->make(0, 0).output_tokens == 3);
  auto chat = lines->make(1, 0);
  REQUIRE(chat.messages.size() == 2);
  CHECK(chat.messages[0].role == "system");
  CHECK(chat.messages[1].content == "u");
  // What the assistant says is the server's business.
  REQUIRE(lines->make(1, 1).messages.size() == 1);
  CHECK(lines->make(1, 1).messages[0].content == "v");
  auto shared = read(R"([{"id":"x","conversations":[{"from":"human","value":"h"},)"
                     R"({"from":"gpt","value":"g"}]},{"id":"y","conversations":[]},)"
                     R"({"conversations":[{"from":"human","value":"i"}]}])")
                    .value();
  CHECK(shared->make(0, 0).messages[0].content == "h");
  CHECK(shared->make(1, 0).messages[0].content == "i");
  CHECK(read("[brackets] begin a text\n").value()->make(0, 0).messages[0].content ==
        "[brackets] begin a text");
}

TEST_CASE("a bad prompt file is refused with the place", "[examples][load]") {
  auto output = parse_lengths("9").value();
  auto complaint = [&](std::string text) {
    auto r = parse_prompts(std::move(text), "f", output, 1);
    REQUIRE_FALSE(r);
    return troupe::text_of(r.error());
  };
  CHECK(complaint("").find("holds no prompt") != std::string::npos);
  CHECK(complaint("ok\n{\"prompt\":").find("line 2: no JSON") != std::string::npos);
  CHECK(complaint("{\"nothing\":1}").find("line 1: not a prompt; known members") !=
        std::string::npos);
  CHECK(complaint("[{\"conversations\":[{\"from\":1}]}]").find("entry 1") != std::string::npos);
  CHECK(troupe::text_of(open_prompts("/nowhere", output, 1).error()).find("cannot be read") !=
        std::string::npos);
}

TEST_CASE("trace files in their forms", "[examples][load]") {
  auto plain = parse_trace("# comment\n10.5 100 20\n10.0\n11,7,8\n", "t").value();
  REQUIRE(plain->size() == 3);
  CHECK((*plain)[0].at == 0);
  CHECK((*plain)[1].at == 500'000'000);
  CHECK((*plain)[1].input_tokens == 100);
  CHECK((*plain)[2].output_tokens == 8);
  auto azure = parse_trace("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                           "2023-11-16 18:15:46.6805900,374,44\n"
                           "2023-11-16 18:15:50.9951690,396,109\n",
                           "t")
                   .value();
  REQUIRE(azure->size() == 2);
  CHECK(static_cast<double>((*azure)[1].at) / 1e9 == Approx(4.314579).margin(1e-6));
  CHECK((*azure)[0].input_tokens == 374);
  auto mooncake =
      parse_trace("{\"timestamp\": 1000, \"input_length\": 6758, \"output_length\": 500, "
                  "\"hash_ids\": [0, 1]}\n{\"timestamp\": 1500}\n",
                  "t")
          .value();
  CHECK((*mooncake)[1].at == 500'000'000);
  CHECK((*mooncake)[0].output_tokens == 500);
  for (const char* text :
       {"", "1\nx\n", "1,2,z\n", "1\n-1\n", "0\n1e300\n", "{\"timestamp\":1}\n{}\n"})
    CHECK_FALSE(parse_trace(text, "t"));
  CHECK(troupe::text_of(parse_trace("1\nx\n", "t").error()).find("line 2") != std::string::npos);
}

TEST_CASE("times as people type and read them", "[examples][load]") {
  CHECK(parse_duration("500ms") == 500'000'000);
  CHECK(parse_duration("1.5") == 1'500'000'000);
  CHECK(parse_duration("2m") == 120'000'000'000);
  CHECK(parse_duration("0") == 0);
  for (const char* text : {"", "ms", "-1s", "1x", "1e300h", "nan", "1 s"})
    CHECK_FALSE(parse_duration(text).has_value());
  CHECK(show_duration(1'500'000'000) == "1.5 s");
  CHECK(show_duration(20'000'000) == "20 ms");
}
