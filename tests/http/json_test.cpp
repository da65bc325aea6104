#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

#include "events.hpp"
#include "troupe/http/json/write.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

std::string quoted(std::string_view text) {
  std::string out;
  json::append_string(out, text);
  return out;
}

template <class T>
std::string real(T x) {
  std::string out;
  json::append_real(out, x);
  return out;
}

std::string refusal(std::string_view text) {
  auto out = json::parse(text);
  return out ? "" : text_of(out.error());
}

} // namespace

TEST_CASE("JSON is read with its types and order", "[http][json]") {
  auto x =
      test::parsed(R"({"b":1,"a":[true,null,-2,18446744073709551615,0.5,"\u00e9\ud83d\ude00"]})");
  REQUIRE(x.as_object());
  CHECK(x.as_object()->at(0).first == "b");
  auto& list = *x.find("a")->as_array();
  CHECK(*list[0].as_bool());
  CHECK(list[1].is_null());
  CHECK(*list[2].as_integer() == -2);
  CHECK(*list[3].as_unsigned() == std::numeric_limits<uint64_t>::max());
  CHECK(*list[4].as_real() == 0.5);
  CHECK(*list[5].as_string() == "é😀");
  std::string again;
  json::append_value(again, x);
  CHECK(again == R"({"b":1,"a":[true,null,-2,18446744073709551615,0.5,"é😀"]})");
}

TEST_CASE("the last of two members with one name counts", "[http][json]") {
  CHECK(*test::parsed(R"({"a":1,"a":2})").find("a")->as_integer() == 2);
}

TEST_CASE("broken JSON is refused with a reason", "[http][json]") {
  CHECK(refusal("") == "the body is empty where a JSON object is expected");
  CHECK(refusal("{\"inputs\": ").find("malformed JSON") == 0);
  CHECK(refusal("{} x").find("malformed JSON") == 0);
  CHECK(refusal("{\"a\": 01}") != "");
  CHECK(refusal("[1e999]") != "");
  CHECK(refusal("\"\xff\"") == "the body is not valid UTF-8");
  CHECK(refusal("\"\xed\xa0\x80\"") == "the body is not valid UTF-8");
  CHECK(refusal("\"\\ud800\"") != "");
  CHECK(refusal(std::string(200, '[') + std::string(200, ']')).find("nested deeper than 128") !=
        std::string::npos);
  CHECK(refusal(std::string(100'000, '[')) != "");
  CHECK(refusal(std::string(100, '[') + std::string(100, ']')) == "");
}

TEST_CASE("strings are escaped and always valid UTF-8", "[http][json]") {
  CHECK(quoted("a\"b\\c\n\r\t\x01\x1f/") == R"("a\"b\\c\n\r\t\u0001\u001f/")");
  CHECK(quoted("naïve 日本 😀") == "\"naïve 日本 😀\"");
  constexpr auto bad = "\xEF\xBF\xBD";
  CHECK(quoted("a\xff"
               "b") == std::string{"\"a"} + bad + "b\"");
  CHECK(quoted("\xe3\x81") == std::string{"\""} + bad + bad + "\"");
  CHECK(quoted("\xc0\xaf") == std::string{"\""} + bad + bad + "\"");
  CHECK(quoted("\xed\xa0\x80") == std::string{"\""} + bad + bad + bad + "\"");
  CHECK(quoted("\xf4\x90\x80\x80").find(bad) != std::string::npos);
  CHECK(quoted(std::string_view{"\0", 1}) == R"("\u0000")");
  CHECK(json::valid_utf8("x\xe2\x82") == std::string{"x"} + bad + bad);
}

TEST_CASE("numbers are short and stay numbers", "[http][json]") {
  CHECK(real(-0.1f) == "-0.1");
  CHECK(real(0.0f) == "0.0");
  CHECK(real(-12.0f) == "-12.0");
  CHECK(real(1e-10) == "1e-10");
  CHECK(real(-INFINITY) == "-9999.0");
  CHECK(real(NAN) == "null");
}
