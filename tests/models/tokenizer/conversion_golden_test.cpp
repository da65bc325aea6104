#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include "troupe/models/tokenizer/conversion.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

#include "golden_strings.hpp"

using namespace troupe;
namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

const fs::path goldens = fs::path{TROUPE_GOLDEN_DIR} / "conversion";

/// As EVERY in make_conversion_goldens.py.
constexpr size_t every = 5;

const std::vector<std::string> folders = {"gpt2",  "gpt2_bos",    "roberta",     "qwen2",
                                          "llama", "llama_new",   "llama_plain", "code_llama",
                                          "t5",    "xlm_roberta", "bert",        "bert_cased"};

std::string decoded(const tokenizer& tok, const std::vector<int32_t>& ids) {
  test::hasher h;
  for (bool skip : {true, false}) {
    auto text = tok.decode(ids, skip);
    REQUIRE(text);
    h.text(*text);
  }
  return h.str();
}

const special_token& role_of(const special_roles& roles, std::string_view name) {
  return name == "bos_token"   ? roles.bos
         : name == "eos_token" ? roles.eos
         : name == "unk_token" ? roles.unk
         : name == "sep_token" ? roles.sep
         : name == "pad_token" ? roles.pad
         : name == "cls_token" ? roles.cls
                               : roles.mask;
}

std::string text_of_file(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  REQUIRE(in);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

} // namespace

TEST_CASE("a folder with an older tokenizer encodes and decodes as transformers does",
          "[models][tokenizer][golden]") {
  auto name = GENERATE(from_range(folders));
  INFO(name);
  auto opened = tokenizer::open(goldens / name);
  if (!opened)
    FAIL(text_of(opened.error()));
  auto& tok = **opened;
  std::ifstream expected{goldens / name / "expected.txt"};
  REQUIRE(expected);
  std::string line;
  std::getline(expected, line);
  auto roles = json::parse(line);
  for (auto& item : roles.as_object()) {
    INFO(item.key());
    auto& role = role_of(tok.roles(), item.key());
    auto& pair = item.value().as_array();
    CHECK(role.text == json::value_to<std::string>(pair[0]));
    CHECK(role.id == json::value_to<int32_t>(pair[1]));
  }
  auto& all = test::golden_strings();
  for (size_t i = 0; i < all.size(); i += every) {
    auto& [category, text] = all[i];
    INFO(category << " #" << i << ": " << text);
    size_t count = 0;
    std::string ids_hash, full_hash, text_hash;
    expected >> count >> ids_hash >> full_hash >> text_hash;
    auto ids = tok.encode(text, false);
    REQUIRE(ids);
    CHECK(ids->size() == count);
    test::hasher plain;
    plain.words(*ids);
    CHECK(plain.str() == ids_hash);
    auto full = tok.encode(text, true);
    auto pair = tok.encode(text, all[(i + 7) % all.size()].text, true);
    REQUIRE(full);
    REQUIRE(pair);
    test::hasher both;
    both.list(*full);
    both.list(*pair);
    CHECK(both.str() == full_hash);
    CHECK(decoded(tok, *full) == text_hash);
    CHECK(tok.min_token_count(text) <= count);
  }
  test::random_lists random{tok.id_limit()};
  size_t lists = 0;
  for (std::string text_hash; expected >> text_hash; ++lists)
    CHECK(decoded(tok, random.next()) == text_hash);
  CHECK(lists == 300);
}

TEST_CASE("damaged older files are an error that names the file, or a tokenizer, never a crash",
          "[models][tokenizer][golden]") {
  struct sample {
    const char* folder;
    const char* file;
  };
  auto s = GENERATE(values<sample>({{"gpt2", "vocab.json"},
                                    {"gpt2", "merges.txt"},
                                    {"qwen2", "tokenizer_config.json"},
                                    {"gpt2_bos", "added_tokens.json"},
                                    {"llama", "tokenizer.model"},
                                    {"t5", "spiece.model"},
                                    {"bert", "vocab.txt"}}));
  INFO(s.folder << "/" << s.file);
  auto copy = fs::temp_directory_path() / ("troupe-older-" + std::to_string(::getpid()));
  fs::remove_all(copy);
  fs::create_directories(copy);
  for (auto& entry : fs::directory_iterator{goldens / s.folder})
    fs::copy_file(entry.path(), copy / entry.path().filename());
  const auto whole = text_of_file(copy / s.file);
  std::mt19937 random{static_cast<uint32_t>(whole.size())};
  size_t refused = 0;
  for (int round = 0; round < 60; ++round) {
    auto text = whole;
    if (round % 3 == 0) {
      text.resize(random() % text.size());
    } else {
      for (int change = 0; change < 1 + round % 8; ++change) {
        // The beginning and the end hold what stands apart from the vocabulary.
        auto at = random() % std::min<size_t>(text.size(), 400);
        text[random() % 2 ? at : text.size() - 1 - at] = static_cast<char>(random());
      }
    }
    std::ofstream{copy / s.file, std::ios::binary} << text;
    auto tok = tokenizer::open(copy);
    if (tok) {
      if (auto ids = (*tok)->encode("Hello \u4f60\u597d 123 <s> \n\n  x"))
        (*tok)->decode(*ids, random() % 2);
      continue;
    }
    ++refused;
    INFO(text_of(tok.error()));
    CHECK(tok.error() == caf::make_error(ec::bad_model));
    CHECK(text_of(tok.error()).find(copy.string()) != std::string::npos);
  }
  CHECK(refused > 0);
  fs::remove_all(copy);
}
