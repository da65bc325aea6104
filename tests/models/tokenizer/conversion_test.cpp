#include "troupe/models/tokenizer/conversion.hpp"

#include <cmath>
#include <cstring>
#include <fstream>
#include <set>

#include <catch2/catch.hpp>

#include "troupe/models/tokenizer/sentencepiece_model.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

using namespace troupe;
namespace fs = std::filesystem;

namespace {

using ids = std::vector<int32_t>;

struct fixture {
  fixture() : path(fs::temp_directory_path() / ("troupe-older-" + std::to_string(::getpid()))) {
    fs::create_directories(path);
  }
  ~fixture() { fs::remove_all(path); }

  void write(const char* name, std::string_view text) const {
    std::ofstream{path / name, std::ios::binary} << text;
  }

  /// A tiny GPT-2: "a" 0, "b" 1, "ab" 2, "c" 3, and the end of text, 4.
  void write_bytes(std::string_view config = R"({"tokenizer_class":"GPT2Tokenizer"})") const {
    write("vocab.json", R"({"a":0,"b":1,"ab":2,"c":3,"<|endoftext|>":4})");
    write("merges.txt", "#version: 0.2\na b\n");
    write("tokenizer_config.json", config);
  }

  tokenizer_ptr open() const {
    auto tok = tokenizer::open(path);
    if (!tok)
      FAIL(text_of(tok.error()));
    return *tok;
  }

  /// The error's text, which names a file of the folder and the way out.
  std::string refusal() const {
    auto tok = tokenizer::open(path);
    REQUIRE_FALSE(tok);
    CHECK(tok.error() == caf::make_error(ec::bad_model));
    auto text = text_of(tok.error());
    CHECK_THAT(text, Catch::Contains(path.string()) && Catch::Contains("save_pretrained"));
    return text;
  }

  fs::path path;
};

std::string varint(uint64_t value) {
  std::string out;
  for (; value > 0x7f; value >>= 7)
    out += static_cast<char>(value | 0x80);
  return out += static_cast<char>(value);
}

std::string bytes_field(uint64_t number, std::string_view bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + std::string{bytes};
}

std::string number_field(uint64_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}

/// A piece of a SentencePiece model.
std::string piece(std::string_view text, float score, uint64_t type = 1) {
  std::string bits(sizeof score, '\0');
  std::memcpy(bits.data(), &score, sizeof score);
  return bytes_field(1, bytes_field(1, text) + varint(2 << 3 | 5) + bits + number_field(3, type));
}

/// <unk> 0, <s> 1, </s> 2, then some letters and what BPE makes of them.
std::string tiny_llama() {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581a", -1) +
         piece("ab", -2) + piece("\u2581", -3) + piece("a", -4) + piece("b", -5) +
         bytes_field(2, number_field(3, 2));
}

} // namespace

TEST_CASE_METHOD(fixture, "what older files say takes part", "[models][tokenizer][conversion]") {
  write_bytes(R"({"tokenizer_class":"GPT2TokenizerFast","add_bos_token":true,
    "bos_token":"c","model_max_length":99})");
  write("added_tokens.json", R"({"<x>":5})");
  auto tok = open();
  CHECK(*tok->encode("ab<x>a") == ids{3, 2, 5, 0});
  CHECK(tok->roles().bos.id == 3);
  CHECK(tok->roles().eos.id == 4);
  CHECK(tok->model_max_length() == 99u);
  CHECK_FALSE(tok->is_special(5));
  CHECK(tok->is_special(4));
}

TEST_CASE_METHOD(fixture, "a tokenizer.json wins over older files, and none is written",
                 "[models][tokenizer][conversion]") {
  write_bytes();
  auto names = [&] {
    std::set<std::string> out;
    for (auto& entry : fs::directory_iterator{path})
      out.insert(entry.path().filename().string());
    return out;
  };
  const auto before = names();
  open();
  CHECK(names() == before);
  auto made = tokenizing::convert(path);
  REQUIRE(made);
  write("tokenizer.json", made->json);
  write("vocab.json", "{");
  CHECK(*open()->encode("ab") == ids{2});
}

TEST_CASE_METHOD(fixture, "the class is told by tokenizer_config.json, config.json or model_type",
                 "[models][tokenizer][conversion]") {
  write_bytes("{}");
  CHECK_THAT(refusal(), Catch::Contains("tokenizer_class") && Catch::Contains("Qwen2Tokenizer"));
  write("config.json", R"({"model_type":"gpt2"})");
  CHECK(*open()->encode("ab") == ids{2});
  write("config.json", R"({"model_type":"unheard","tokenizer_class":"GPT2Tokenizer"})");
  CHECK(*open()->encode("ab") == ids{2});
  write("tokenizer_config.json", R"({"tokenizer_class":"CLIPTokenizer"})");
  CHECK_THAT(refusal(), Catch::Contains("\"CLIPTokenizer\"") && Catch::Contains("LlamaTokenizer"));
  write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer"})");
  CHECK_THAT(refusal(), Catch::Contains("tokenizer.model is missing"));
  write("tokenizer_config.json", "[1]");
  CHECK_THAT(refusal(), Catch::Contains("tokenizer_config.json"));
}

TEST_CASE_METHOD(fixture, "a vocabulary and merges that do not fit are refused by line",
                 "[models][tokenizer][conversion]") {
  write_bytes();
  SECTION("an unknown part") {
    write("merges.txt", "#version: 0.2\na b\na c\n");
    CHECK_THAT(refusal(), Catch::Contains("merges.txt line 3") && Catch::Contains("\"ac\""));
  }
  SECTION("not two parts") {
    write("merges.txt", GENERATE("a b\nab\n", "a b\na  b\n", "a b\na b c\n", "a b\n a\n"));
    CHECK_THAT(refusal(), Catch::Contains("line 2") && Catch::Contains("two parts"));
  }
  SECTION("an equal merge counts once, lines may end as on Windows") {
    write("merges.txt", "a b\r\n\r\na b");
    CHECK(*open()->encode("ab") == ids{2});
  }
  SECTION("no merges") {
    fs::remove(path / "merges.txt");
    CHECK_THAT(refusal(), Catch::Contains("merges.txt is missing"));
  }
  SECTION("an id twice") {
    write("vocab.json", R"({"a":0,"b":1,"ab":1})");
    CHECK_THAT(refusal(), Catch::Contains("id 1") && Catch::Contains("\"ab\""));
  }
  SECTION("no id") {
    write("vocab.json", GENERATE(R"({"a":-1})", R"({"a":0.5})", R"({"a":"0"})", R"({"a":null})",
                                 R"({"a":4294967296})", R"({"a":18446744073709551615})"));
    CHECK_THAT(refusal(), Catch::Contains("\"a\""));
  }
  SECTION("no vocabulary") {
    write("vocab.json", GENERATE("", "{}", "[]", "{\"a\":", "\xff\xfe"));
    CHECK_THAT(refusal(), Catch::Contains("vocab.json"));
  }
}

TEST_CASE_METHOD(fixture, "added tokens whose ids do not fit the vocabulary are refused",
                 "[models][tokenizer][conversion]") {
  write_bytes();
  write("added_tokens.json", R"({"<x>":7})");
  CHECK_THAT(refusal(), Catch::Contains("\"<x>\" at id 5") && Catch::Contains("says 7"));
  write("added_tokens.json", R"({"<x>":-1})");
  CHECK_THAT(refusal(), Catch::Contains("added_tokens.json"));
  fs::remove(path / "added_tokens.json");
  for (auto listed :
       {R"({"1":{"content":"a"}})", R"({"x":{"content":"a"}})", R"({"5":"a"})", "[]"}) {
    INFO(listed);
    write_bytes(std::string{R"({"tokenizer_class":"GPT2Tokenizer","added_tokens_decoder":)"} +
                listed + "}");
    refusal();
  }
}

TEST_CASE_METHOD(fixture, "a SentencePiece model becomes merges by its scores",
                 "[models][tokenizer][conversion]") {
  write("tokenizer.model", tiny_llama());
  write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer"})");
  auto tok = open();
  // "▁a" has a better score than "ab", so it is made first.
  CHECK(*tok->encode("ab") == ids{1, 3, 7});
  CHECK(*tok->encode("bab", false) == ids{5, 7, 4});
  CHECK(*tok->decode({1, 3, 7}, true) == "ab");
}

TEST_CASE_METHOD(fixture, "a SentencePiece model that is not whole is refused",
                 "[models][tokenizer][conversion]") {
  write("tokenizer_config.json", R"({"tokenizer_class":"LlamaTokenizer"})");
  const auto whole = tiny_llama();
  SECTION("cut anywhere") {
    size_t cut = 0;
    for (size_t n = 0; n < whole.size(); ++n) {
      auto read = tokenizing::read_sentencepiece(std::string_view{whole}.substr(0, n), "x.model");
      cut += !read;
      // Between two fields it is a smaller model, which the class refuses for its kind.
      if (n > 0 && read)
        CHECK(read->model == tokenizing::sentencepiece_model::kind::unigram);
    }
    CHECK(cut > whole.size() / 2);
    write("tokenizer.model", whole.substr(0, whole.size() - 1));
    CHECK_THAT(refusal(), Catch::Contains("offset"));
  }
  SECTION("counts beyond the file") {
    for (auto size : {uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
      write("tokenizer.model", varint(1 << 3 | 2) + varint(size) + "abc");
      CHECK_THAT(refusal(), Catch::Contains("offset 0"));
    }
  }
  SECTION("no end to a number, no such field") {
    write("tokenizer.model",
          GENERATE(std::string(12, '\xff'), std::string(3, '\0'), std::string{"\x0b\x0c"}));
    CHECK_THAT(refusal(), Catch::Contains("offset 0"));
  }
  SECTION("another format under this name") {
    write("tokenizer.model", GENERATE("", "IQ== 0\nIg== 1\n"));
    CHECK_THAT(refusal(), Catch::Contains("no pieces"));
  }
  SECTION("a piece twice") {
    write("tokenizer.model", whole + piece("ab", 0));
    CHECK_THAT(refusal(), Catch::Contains("piece 8") && Catch::Contains("twice"));
  }
  SECTION("a score that is no number, a text that is none") {
    write("tokenizer.model", whole + GENERATE(piece("x", NAN), piece("x", INFINITY), piece("", 0),
                                              piece("\xff", 0), piece(std::string(513, 'x'), 0)));
    CHECK_THAT(refusal(), Catch::Contains("piece 8"));
  }
  SECTION("an unknown piece that is none, another algorithm") {
    write("tokenizer.model", whole + bytes_field(2, number_field(40, 8)));
    CHECK_THAT(refusal(), Catch::Contains("names piece 8"));
    write("tokenizer.model", whole + bytes_field(2, number_field(3, 1)));
    CHECK_THAT(refusal(), Catch::Contains("kind 1"));
  }
}

TEST_CASE_METHOD(fixture, "vocab.txt has one token a line", "[models][tokenizer][conversion]") {
  write("tokenizer_config.json", R"({"tokenizer_class":"BertTokenizer"})");
  write("vocab.txt", "[PAD]\n[UNK]\r\n[CLS]\n[SEP]\n[MASK]\nhello\n##s\nhello");
  auto tok = open();
  CHECK(*tok->encode("Hell\u00f3s") == ids{2, 7, 6, 3});
  CHECK(*tok->encode("hello", "hello", true) == ids{2, 7, 3, 7, 3});
  write("vocab.txt", "[PAD]\n[UNK]\n\xff\n");
  CHECK_THAT(refusal(), Catch::Contains("line 3"));
  write("vocab.txt", "");
  CHECK_THAT(refusal(), Catch::Contains("vocab.txt is empty"));
  fs::remove(path / "vocab.txt");
  write("vocab.json", "{}");
  CHECK_THAT(refusal(), Catch::Contains("vocab.txt is missing"));
}
