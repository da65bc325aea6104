#include "troupe/models/tokenizer/tokenizer.hpp"

#include <filesystem>
#include <fstream>
#include <thread>

#include <catch2/catch.hpp>

#include "troupe/models/tokenizer/byte_tokenizer.hpp"

using namespace troupe;
namespace fs = std::filesystem;

namespace {

/// The value, or an empty one in place of an error.
template <class T>
T get(const caf::expected<T>& x) {
  return x ? *x : T{};
}

/// Words of a tiny BERT: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, hello 4, world 5, ##s 6.
constexpr auto word_piece = R"({"version":"1.0",
  "truncation":{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0},
  "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,
    "pad_type_id":0,"pad_token":"[PAD]"},
  "added_tokens":[
    {"id":0,"content":"[PAD]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
    {"id":1,"content":"[UNK]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
    {"id":2,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
    {"id":3,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
  "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
  "pre_tokenizer":{"type":"BertPreTokenizer"},
  "post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},
  "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
  "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
    "max_input_chars_per_word":100,
    "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"hello":4,"world":5,"##s":6}}})";

tokenizer_ptr words(std::string_view config = "{}") {
  auto tok = tokenizer::parse(word_piece, config);
  REQUIRE(tok);
  return *tok;
}

struct folder {
  folder() : path(fs::temp_directory_path() / ("troupe-tok-" + std::to_string(::getpid()))) {
    fs::create_directories(path);
  }
  ~folder() { fs::remove_all(path); }
  void write(const char* name, std::string_view text) const {
    std::ofstream{path / name, std::ios::binary} << text;
  }
  fs::path path;
};

} // namespace

TEST_CASE("a pair is joined as the post-processor says", "[models][tokenizer]") {
  auto tok = words();
  CHECK(*tok->encode("hello", "worlds", true) == std::vector<int32_t>{2, 4, 3, 5, 6, 3});
  CHECK(*tok->encode("hello", "worlds", false) == std::vector<int32_t>{4, 5, 6});
  auto full = tok->encode_full("hello", "worlds", {true, offset_unit::bytes});
  REQUIRE(full);
  CHECK(full->type_ids == std::vector<int32_t>{0, 0, 0, 1, 1, 1});
  CHECK(full->special == std::vector<uint8_t>{1, 0, 1, 0, 0, 1});
  CHECK(full->sequences == std::vector<int32_t>{-1, 0, -1, 1, 1, -1});
  CHECK(full->words == std::vector<int32_t>{-1, 0, -1, 0, 0, -1});
  using span = std::pair<uint32_t, uint32_t>;
  CHECK(full->offsets == std::vector<span>{{0, 0}, {0, 5}, {0, 0}, {0, 5}, {5, 6}, {0, 0}});
}

TEST_CASE("offsets count bytes or characters", "[models][tokenizer]") {
  auto tok = words();
  using span = std::pair<uint32_t, uint32_t>;
  auto in = [&](offset_unit unit) {
    return tok->encode_full("\u00e9\u00e9 hello", {false, unit})->offsets;
  };
  CHECK(in(offset_unit::bytes) == std::vector<span>{{0, 4}, {5, 10}});
  CHECK(in(offset_unit::characters) == std::vector<span>{{0, 2}, {3, 8}});
  CHECK(in(offset_unit::none).empty());
}

TEST_CASE("truncation and padding of tokenizer.json are left to the caller",
          "[models][tokenizer]") {
  CHECK(words()->encode("hello hello hello hello hello")->size() == 7);
  CHECK(words()->encode("hello")->size() == 3);
}

TEST_CASE("roles come from tokenizer_config.json, as texts or as objects", "[models][tokenizer]") {
  auto tok = words(R"({"pad_token":"[PAD]","cls_token":{"__type":"AddedToken","content":"[CLS]"},
    "bos_token":null,"model_max_length":512,"padding_side":"left",
    "clean_up_tokenization_spaces":true})");
  CHECK(tok->roles().pad.id == 0);
  CHECK(tok->roles().cls.text == "[CLS]");
  CHECK(tok->roles().cls.id == 2);
  CHECK_FALSE(tok->roles().bos);
  CHECK(tok->model_max_length() == 512u);
  CHECK(tok->pads_left());
  CHECK(tok->cleans_up_spaces());
}

TEST_CASE("transformers' very large model_max_length means none", "[models][tokenizer]") {
  CHECK_FALSE(words(R"({"model_max_length":1000000000000000019884624838656})")->model_max_length());
  CHECK_FALSE(words(R"({"model_max_length":1e30})")->model_max_length());
  CHECK_FALSE(words()->model_max_length());
}

TEST_CASE("a role's token joins the vocabulary when nothing else adds it", "[models][tokenizer]") {
  auto tok = words(R"({"eos_token":"<end>","sep_token":"world"})");
  CHECK(tok->roles().eos.id == 7);
  CHECK(tok->is_special(7));
  CHECK(tok->roles().sep.id == 5);
  CHECK(tok->is_special(5));
  CHECK(*tok->encode("hello<end>", false) == std::vector<int32_t>{4, 7});
}

TEST_CASE("added_tokens_decoder overrides the flags of a token", "[models][tokenizer]") {
  auto tok = words(R"({"added_tokens_decoder":{"4":{"content":"hello","special":true}}})");
  CHECK(tok->is_special(4));
  CHECK(get(tok->decode({4, 5}, true)) == "world");
}

TEST_CASE("special_tokens_map.json fills roles that the config leaves open",
          "[models][tokenizer]") {
  folder f;
  f.write("tokenizer.json", word_piece);
  f.write("tokenizer_config.json", R"({"pad_token":"[PAD]"})");
  f.write("special_tokens_map.json", R"({"pad_token":"[UNK]","unk_token":"[UNK]"})");
  auto tok = tokenizer::open(f.path);
  REQUIRE(tok);
  CHECK((*tok)->roles().pad.id == 0);
  CHECK((*tok)->roles().unk.id == 1);
}

TEST_CASE("a folder without tokenizer.json is refused with the remedy", "[models][tokenizer]") {
  folder f;
  auto tok = tokenizer::open(f.path);
  REQUIRE_FALSE(tok);
  CHECK(tok.error() == caf::make_error(ec::bad_model));
  CHECK_THAT(text_of(tok.error()), Catch::Contains((f.path / "tokenizer.json").string()) &&
                                       Catch::Contains("save_pretrained"));
}

TEST_CASE("broken files are refused by name", "[models][tokenizer]") {
  folder f;
  SECTION("tokenizer.json") {
    auto whole = std::string{word_piece};
    auto text = GENERATE_COPY(std::string{}, std::string{"{}"}, std::string{"[]"},
                              std::string{"\xff\xfe"}, whole.substr(0, whole.size() / 2),
                              std::string(100000, '['), whole + "x", std::string(3, '\0'));
    f.write("tokenizer.json", text);
    auto tok = tokenizer::open(f.path);
    REQUIRE_FALSE(tok);
    CHECK(tok.error() == caf::make_error(ec::bad_model));
    CHECK_THAT(text_of(tok.error()), Catch::Contains("tokenizer.json"));
  }
  SECTION("tokenizer_config.json") {
    f.write("tokenizer.json", word_piece);
    f.write("tokenizer_config.json", GENERATE("{", "[1]", "\xff", "null"));
    auto tok = tokenizer::open(f.path);
    REQUIRE_FALSE(tok);
    CHECK_THAT(text_of(tok.error()), Catch::Contains("tokenizer_config.json"));
  }
  SECTION("a folder in the place of a file") {
    fs::create_directories(f.path / "tokenizer.json");
    CHECK_FALSE(tokenizer::open(f.path));
  }
}

TEST_CASE("a tokenizer.json cut anywhere is an error, never a crash", "[models][tokenizer]") {
  auto whole = std::string{word_piece};
  for (size_t n = 0; n < whole.size(); n += 7)
    CHECK_FALSE(tokenizer::parse(whole.substr(0, n)));
}

TEST_CASE("odd values in tokenizer.json do no harm", "[models][tokenizer]") {
  auto with = [](std::string_view from, std::string_view to) {
    std::string text{word_piece};
    text.replace(text.find(from), from.size(), to);
    return tokenizer::parse(text);
  };
  CHECK_FALSE(with("\"world\":5", "\"world\":-5"));
  CHECK_FALSE(with("\"world\":5", "\"world\":5.5"));
  // An id far beyond the vocabulary would ask for tables of 16 GB.
  CHECK_FALSE(with("\"world\":5", "\"world\":4294967295"));
  CHECK_FALSE(with("\"type\":\"WordPiece\",\"unk", "\"type\":\"Unheard\",\"unk"));
  CHECK_FALSE(with("BertPreTokenizer", "Split\",\"behavior\":\"Removed\",\"invert\":false,"
                                       "\"pattern\":{\"Regex\":\"(((\"},\"x\":\""));
  auto duplicate = with("\"world\":5", "\"world\":4");
  if (duplicate)
    CHECK((*duplicate)->decode({4}).engaged());
}

TEST_CASE("text that is not UTF-8 is refused", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  for (std::string_view text : {"\xff", "ab\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xc0\xaf"}) {
    auto ids = tok->encode(text);
    REQUIRE_FALSE(ids);
    CHECK(ids.error() == caf::make_error(ec::invalid_request));
    CHECK_FALSE(tok->encode("fine", text, true));
    CHECK_FALSE(tok->encode_full(text, {}));
    CHECK_FALSE(tok->token_to_id(text));
  }
  CHECK_THAT(text_of(tok->encode("ab\xc3").error()), Catch::Contains("byte 2"));
}

TEST_CASE("NULs and empty texts are text", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  std::string text{"a\0b", 3};
  CHECK(*tok->encode(text) == std::vector<int32_t>{'a', 0, 'b'});
  CHECK(*tok->decode({'a', 0, 'b'}) == text);
  CHECK(tok->encode("")->empty());
  CHECK(*tok->decode({}) == "");
  CHECK(tok->encode_full("", {})->ids.empty());
}

TEST_CASE("ids without a token decode to nothing, negative ones are refused",
          "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  CHECK(*tok->decode({'a', 100000, 'b', 2147483647}) == "ab");
  CHECK_FALSE(tok->decode({'a', -1}));
  CHECK_FALSE(tok->id_to_token(-1));
  CHECK_FALSE(tok->id_to_token(259));
  CHECK(tok->token_bytes(-1).empty());
  CHECK(tok->token_bytes(1 << 30).empty());
  CHECK_FALSE(tok->is_special(-1));
  CHECK_FALSE(tok->is_special(1 << 30));
}

TEST_CASE("a token's bytes need not be UTF-8, its text is", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  CHECK(tok->token_bytes(0xe4) == "\xe4");
  CHECK(tok->token_text(0xe4) == "\ufffd");
  CHECK(tok->token_bytes(' ') == " ");
  CHECK(*tok->id_to_token(' ') == "\u0120");
  CHECK(*tok->token_to_id("\u0120") == ' ');
  CHECK(tok->token_bytes(256) == "<|im_start|>");
}

TEST_CASE("the least number of tokens never exceeds the true one", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  CHECK(tok->max_token_bytes() == 13);
  for (auto text :
       {std::string{}, std::string(1000, 'x'), std::string{"<|endoftext|>"},
        std::string{"\u4f60\u597d"}, std::string{"<|im_start|>"}, std::string(1, 'x')}) {
    CHECK(tok->min_token_count(text) <= tok->encode(text)->size());
  }
  // The longest token with an x in it has 13 bytes; none has a space but the space's own.
  CHECK(tok->min_token_count(std::string(13000, 'x')) == 1000);
  CHECK(tok->min_token_count(std::string(13000, ' ')) == 13000);
  // One unknown word may hold any number of letters.
  CHECK(words()->min_token_count(std::string(13000, 'x')) == 0);
}

TEST_CASE("very long runs are encoded whole", "[models][tokenizer]") {
  auto tok = byte_tokenizer();
  for (auto c : {' ', 'a', '\n', '0'}) {
    std::string run(300000, c);
    auto ids = tok->encode(run);
    REQUIRE(ids);
    CHECK(ids->size() == run.size());
    CHECK(*tok->decode(*ids) == run);
  }
}

TEST_CASE("clean-up removes the spaces that transformers removes", "[models][tokenizer]") {
  CHECK(tokenizer::clean_up("a . b ? c ! d , e") == "a. b? c! d, e");
  CHECK(tokenizer::clean_up("it 's n't ' x ' they 're I 'm we 've") ==
        "it'sn't'x'they're I'm we've");
  CHECK(tokenizer::clean_up("") == "");
}

TEST_CASE("threads share one tokenizer", "[models][tokenizer]") {
  auto tok = words();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        auto ids = tok->encode("hello worlds", t % 2 == 0);
        auto text = tok->decode(*ids);
        wrong[static_cast<size_t>(t)] += *text != "hello worlds";
      }
    });
  for (auto& t : threads)
    t.join();
  CHECK(wrong == std::vector<int>(4, 0));
}
