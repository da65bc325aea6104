#include <catch2/catch.hpp>

#include <random>

#include "troupe/actors/choice.hpp"
#include "troupe/models/tokenizer/byte_tokenizer.hpp"

using namespace troupe;

namespace {

constexpr int32_t eos = 257; // <|im_end|>
constexpr int32_t other_special = 256;

struct setup {
  std::vector<std::string> stops = {};
  bool include_stop = false;
  bool stream = false;
  bool skip_special = true;
  uint32_t max_new_tokens = 1000;
  std::vector<int32_t> stop_tokens = {};
  bool ignore_eos = false;
  uint16_t top_n = 0;
  bool bytes = false;
};

std::shared_ptr<const choice_rules> rules_of(const setup& s) {
  auto text = std::make_shared<text_rules>();
  text->stops = stop_matcher{s.stops};
  text->include_stop = s.include_stop;
  text->hold_back = s.stream;
  auto rules = std::make_shared<choice_rules>();
  rules->tok = byte_tokenizer();
  rules->text = text;
  if (!s.ignore_eos)
    rules->eos_tokens = {eos};
  rules->stop_tokens = s.stop_tokens;
  rules->max_new_tokens = s.max_new_tokens;
  rules->top_n = s.top_n;
  rules->skip_special_tokens = s.skip_special;
  rules->token_bytes = s.bytes;
  return rules;
}

struct outcome {
  std::vector<std::string> pieces;
  choice_event end;
  std::string joined() const {
    std::string all;
    for (const auto& piece : pieces)
      all += piece;
    return all + end.tail;
  }
};

/// Feeds tokens until the choice ends by itself, or ends it for lack of tokens.
outcome generate(const setup& s, const std::vector<int32_t>& tokens) {
  choice c{rules_of(s), 0};
  outcome result;
  for (auto token : tokens) {
    row_result row;
    row.token = token;
    row.logprob = -0.5f;
    result.pieces.push_back(c.add(row).token.text);
    if (c.ended())
      break;
  }
  if (!c.ended())
    c.end(finish_reason::length);
  result.end = c.close();
  return result;
}

std::vector<int32_t> bytes_of(std::string_view text) {
  std::vector<int32_t> ids;
  for (unsigned char c : text)
    ids.push_back(c);
  return ids;
}

std::vector<int32_t> then(std::vector<int32_t> ids, int32_t last) {
  ids.push_back(last);
  return ids;
}

} // namespace

TEST_CASE("a character in pieces shows with the token that completes it", "[actors][choice]") {
  auto got = generate({.stream = true}, then(bytes_of("a\xc3\xa4z"), eos));
  CHECK(got.pieces == std::vector<std::string>{"a", "", "\xc3\xa4", "z", ""});
  CHECK(got.end.generated_text == "a\xc3\xa4z");
  CHECK(got.end.reason == finish_reason::eos_token);
  CHECK(got.end.generated_tokens == 5);
  CHECK(got.end.cumulative_logprob == Approx(-2.5));
}

TEST_CASE("text that may begin a stop string is held until it is settled", "[actors][choice]") {
  setup s{.stops = {"STOP"}, .stream = true};
  auto cut = generate(s, bytes_of("abSTxSTOPyes"));
  CHECK(cut.pieces == std::vector<std::string>{"a", "b", "", "", "STx", "", "", "", ""});
  CHECK(cut.end.reason == finish_reason::stop_sequence);
  CHECK(cut.end.generated_text == "abSTx");
  CHECK(cut.end.generated_tokens == 9);
  s.include_stop = true;
  CHECK(generate(s, bytes_of("abSTOP!")).joined() == "abSTOP");
}

TEST_CASE("an answer that is collected keeps every token's own text", "[actors][choice]") {
  auto got = generate({.stops = {"ST"}}, bytes_of("abST"));
  CHECK(got.pieces == std::vector<std::string>{"a", "b", "S", "T"});
  CHECK(got.end.generated_text == "ab");
}

TEST_CASE("eos releases what was held, in its own event", "[actors][choice]") {
  auto got = generate({.stops = {"STOP"}, .stream = true}, then(bytes_of("aST"), eos));
  CHECK(got.pieces == std::vector<std::string>{"a", "", "", "ST"});
  CHECK(got.end.tail.empty());
  CHECK(got.end.reason == finish_reason::eos_token);
}

TEST_CASE("eos has no text unless special tokens are shown", "[actors][choice]") {
  auto tokens = then(bytes_of("a"), eos);
  CHECK(generate({}, tokens).end.generated_text == "a");
  CHECK(generate({.skip_special = false}, tokens).end.generated_text == "a<|im_end|>");
  auto more = tokens;
  more.push_back('b');
  auto ignored = generate({.ignore_eos = true}, more);
  CHECK(ignored.end.generated_text == "ab");
  CHECK(ignored.end.reason == finish_reason::length);
}

TEST_CASE("a stop token ends the text without showing", "[actors][choice]") {
  auto got = generate({.stop_tokens = {'z'}}, bytes_of("abz"));
  CHECK(got.end.generated_text == "ab");
  CHECK(got.end.reason == finish_reason::stop_sequence);
  CHECK(got.end.generated_tokens == 3);
}

TEST_CASE("eos goes before a stop token, a stop string before the length", "[actors][choice]") {
  CHECK(generate({.stop_tokens = {eos}}, {'a', eos}).end.reason == finish_reason::eos_token);
  CHECK(generate({.stop_tokens = {eos}, .ignore_eos = true}, {'a', eos}).end.reason ==
        finish_reason::stop_sequence);
  CHECK(generate({.stops = {"b"}, .max_new_tokens = 2}, bytes_of("ab")).end.reason ==
        finish_reason::stop_sequence);
  CHECK(generate({.max_new_tokens = 2}, bytes_of("abc")).end.reason == finish_reason::length);
}

TEST_CASE("an incomplete character at the end becomes U+FFFD", "[actors][choice]") {
  for (bool stream : {false, true}) {
    auto got = generate({.stream = stream, .max_new_tokens = 2}, {'a', 0xc3});
    CHECK(got.pieces == std::vector<std::string>{"a", "\xef\xbf\xbd"});
    CHECK(got.end.generated_text == "a\xef\xbf\xbd");
  }
}

TEST_CASE("an end that no token brought about leaves the rest in the tail", "[actors][choice]") {
  auto got = generate({.stops = {"STOP"}, .stream = true}, bytes_of("aST"));
  CHECK(got.pieces == std::vector<std::string>{"a", "", ""});
  CHECK(got.end.tail == "ST");
  CHECK(got.end.generated_text == "aST");
}

TEST_CASE("top tokens are cut to the asked number and keep the drawn one", "[actors][choice]") {
  choice c{rules_of({.top_n = 2, .bytes = true}), 3};
  row_result row;
  row.token = 'd';
  row.top = {{'a', -0.1f}, {'b', -0.2f}, {'c', -0.3f}, {'d', -0.4f}};
  auto event = c.add(row);
  CHECK(event.choice == 3);
  REQUIRE(event.top.size() == 3);
  CHECK(event.top[0].text == "a");
  CHECK(event.top[0].logprob == -0.1f);
  CHECK(event.top[2].id == 'd');
  CHECK(event.token.bytes == "d");
  row.token = 'b';
  CHECK(c.add(row).top.size() == 2);
  row.token = other_special;
  CHECK(c.add(row).token.special);
}

TEST_CASE("streamed pieces, collected pieces and the whole text agree", "[actors][choice]") {
  const std::vector<std::string> alphabet = {"a", "b", "ab", "ä", "€", "😀", " ", "\n", "ST", "OP"};
  std::mt19937 random{7};
  size_t stopped = 0;
  for (int round = 0; round < 1500; ++round) {
    std::vector<int32_t> tokens;
    for (size_t i = 0, n = random() % 20; i < n; ++i) {
      auto ids = bytes_of(alphabet[random() % alphabet.size()]);
      tokens.insert(tokens.end(), ids.begin(), ids.end());
      // Bytes that are no text, and special tokens.
      if (random() % 12 == 0)
        tokens.push_back(static_cast<int32_t>(0x80 + random() % 0x80));
      if (random() % 12 == 0)
        tokens.push_back(other_special);
    }
    if (random() % 2)
      tokens.push_back(eos);
    setup s;
    s.include_stop = random() % 2;
    s.skip_special = random() % 4 != 0;
    s.max_new_tokens = 1 + random() % 40;
    for (size_t i = 0, n = random() % 4; i < n; ++i)
      s.stops.push_back(alphabet[random() % alphabet.size()] +
                        alphabet[random() % alphabet.size()]);
    auto collected = generate(s, tokens);
    s.stream = true;
    auto streamed = generate(s, tokens);
    REQUIRE(streamed.joined() == streamed.end.generated_text);
    REQUIRE(streamed.end.generated_text == collected.end.generated_text);
    REQUIRE(streamed.end.reason == collected.end.reason);
    REQUIRE(streamed.pieces.size() == streamed.end.generated_tokens);
    if (collected.end.reason == finish_reason::stop_sequence) {
      ++stopped;
      continue;
    }
    REQUIRE(collected.joined() == collected.end.generated_text);
    std::vector<int32_t> used(tokens.begin(), tokens.begin() + collected.end.generated_tokens);
    if (collected.end.reason == finish_reason::eos_token && s.skip_special)
      used.pop_back();
    auto whole = byte_tokenizer()->decode(used, s.skip_special);
    REQUIRE(whole);
    REQUIRE(collected.end.generated_text == *whole);
  }
  CHECK(stopped > 100);
}
