#include "troupe/models/tokenizer/byte_tokenizer.hpp"

#include <numeric>

#include <catch2/catch.hpp>

#include "troupe/models/tokenizer/stream_decoder.hpp"

using namespace troupe;

namespace {

std::string every_byte() {
  std::string text(128, '\0');
  std::iota(text.begin(), text.end(), '\0');
  return text + "\u00e9\u4f60\U0001f600";
}

} // namespace

TEST_CASE("the byte tokenizer gives each byte its own id", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  auto text = every_byte();
  auto ids = tok->encode(text);
  REQUIRE(ids);
  REQUIRE(ids->size() == text.size());
  for (size_t i = 0; i < text.size(); ++i)
    CHECK(ids->at(i) == static_cast<unsigned char>(text[i]));
  CHECK(*tok->decode(*ids) == text);
  CHECK(tok->vocab_size() == 259);
  CHECK(tok->id_limit() == 259);
}

TEST_CASE("the byte tokenizer finds its special tokens in text", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  auto ids = tok->encode("<|im_start|>a<|im_end|>");
  REQUIRE(ids);
  CHECK(*ids == std::vector<int32_t>{256, 'a', 257});
  CHECK(*tok->decode(*ids, true) == "a");
  CHECK(*tok->decode(*ids, false) == "<|im_start|>a<|im_end|>");
  CHECK(tok->roles().eos.id == 257);
  CHECK(tok->roles().bos.id == 258);
  CHECK(tok->is_special(256));
  CHECK_FALSE(tok->is_special('a'));
}

TEST_CASE("the byte tokenizer's template renders ChatML", "[models][tokenizer]") {
  auto text = byte_chat_template()->render(
      R"({"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true})");
  REQUIRE(text);
  CHECK(*text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}
