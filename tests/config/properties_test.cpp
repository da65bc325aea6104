#include <fstream>

#include <catch2/catch.hpp>

#include "troupe/config/properties.hpp"

using namespace troupe;
using namespace troupe::config;

namespace {

std::vector<property> read(std::string_view text) {
  auto result = parse_properties(text, "x.properties");
  REQUIRE(result);
  return *result;
}

void check(std::string_view text, std::string_view key, std::string_view value, size_t line = 1) {
  INFO(text);
  auto entries = read(text);
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].key == key);
  CHECK(entries[0].text == value);
  CHECK(entries[0].line == line);
}

} // namespace

TEST_CASE("key and value are separated by =, colon or white space", "[config][properties]") {
  check("a=b", "a", "b");
  check("a = b", "a", "b");
  check("a:b", "a", "b");
  check("a  :  b c", "a", "b c");
  check("a b", "a", "b");
  check("a\tb", "a", "b");
  check("a == b", "a", "= b");
  check("a", "a", "");
  check("a=", "a", "");
  check("  a = b ", "a", "b ");
  check("option.dtype=http://x:80/?a=b", "option.dtype", "http://x:80/?a=b");
}

TEST_CASE("blank lines and comments are passed over and still counted", "[config][properties]") {
  check("\n# x = 1\n  ! y = 2\n \t\na = b # c\n", "a", "b # c", 5);
  check("\r\n\r\na=b\r\n", "a", "b", 3);
  CHECK(read("").empty());
  CHECK(read("# only this").empty());
}

TEST_CASE("a backslash at the end of a line goes on with the next", "[config][properties]") {
  check("a = b\\\n    c", "a", "bc");
  check("#\na = b,\\\r\n  c,\\\n\td\n", "a", "b,c,d", 2);
  check("a = b\\\\", "a", "b\\");
  check("a\\\n  b = c", "ab", "c");
  check("a = b\\", "a", "b");
  auto two = read("a = \\\\\nb = c");
  REQUIRE(two.size() == 2);
  CHECK(two[0].text == "\\");
  CHECK(two[1].line == 2);
  auto after = read("a = 1\\\n2\nb = 3");
  REQUIRE(after.size() == 2);
  CHECK(after[1].line == 3);
}

TEST_CASE("escapes stand for characters", "[config][properties]") {
  check("a = \\t\\n\\r\\f\\\\\\q", "a", "\t\n\r\f\\q");
  check("a\\ b\\=c\\:d = e", "a b=c:d", "e");
  check("a = \\u00e9\\u4E2D\\u0041", "a",
        "\xC3\xA9\xE4\xB8\xAD"
        "A");
  check("a = \\uD83D\\uDE00", "a", "\xF0\x9F\x98\x80");
  check("a = \xC3\xA9", "a", "\xC3\xA9");
  check("\xEF\xBB\xBF"
        "a = b",
        "a", "b");
}

TEST_CASE("every broken escape is named with its line", "[config][properties]") {
  auto result = parse_properties("a = \\u12\nb = 1\nc = \\uD800x\nd = \\uDE00", "x.properties");
  REQUIRE(!result);
  CHECK(code_of(result.error()) == ec::bad_option);
  auto text = text_of(result.error());
  CHECK(text.find("x.properties:1:") != std::string::npos);
  CHECK(text.find("x.properties:2:") == std::string::npos);
  CHECK(text.find("x.properties:3:") != std::string::npos);
  CHECK(text.find("x.properties:4:") != std::string::npos);
}

TEST_CASE("any bytes are read without harm", "[config][properties]") {
  uint64_t state = 1;
  constexpr std::string_view alphabet = "ab=: \t\\\nu\r#!0D8f\f";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = 0; i < 24; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text += alphabet[(state >> 33) % alphabet.size()];
    }
    if (auto result = parse_properties(text, "x"))
      for (auto& entry : *result)
        CHECK((entry.line >= 1 && entry.line <= 25));
    else
      CHECK(code_of(result.error()) == ec::bad_option);
  }
}

TEST_CASE("a file that cannot be read is named", "[config][properties]") {
  auto missing = read_properties("/nowhere/serving.properties");
  REQUIRE(!missing);
  CHECK(text_of(missing.error()).find("/nowhere/serving.properties") != std::string::npos);
  auto folder = read_properties("/tmp");
  REQUIRE(!folder);
  auto big = std::filesystem::temp_directory_path() / "troupe-big.properties";
  std::ofstream{big} << std::string((1 << 20) + 1, 'x');
  auto refused = read_properties(big);
  std::filesystem::remove(big);
  REQUIRE(!refused);
  CHECK(text_of(refused.error()).find("larger than 1 MiB") != std::string::npos);
}
