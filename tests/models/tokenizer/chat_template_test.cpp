#include "troupe/models/tokenizer/chat_template.hpp"

#include <filesystem>
#include <fstream>
#include <thread>

#include <unistd.h>

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

constexpr auto hello = R"({"messages":[{"role":"user","content":"Hi"}]})";

/// Renders `source` with more variables in the context; an error renders as "code: text".
std::string rendered(std::string_view source, std::string_view more = "", int64_t now = 0) {
  auto made = chat_template::compile(source, *byte_tokenizer());
  if (!made)
    return "compile: " + text_of(made.error());
  auto context = R"({"messages":[{"role":"user","content":"Hi"}])" +
                 (more.empty() ? std::string{} : "," + std::string{more}) + "}";
  auto text = (*made)->render_at(now, context);
  return text ? *text : to_string(code_of(text.error())) + ": " + text_of(text.error());
}

struct folder {
  folder() : path(fs::temp_directory_path() / ("troupe-tpl-" + std::to_string(::getpid()))) {
    fs::create_directories(path / "additional_chat_templates");
  }
  ~folder() { fs::remove_all(path); }
  void write(const char* name, std::string_view text) const {
    std::ofstream{path / name, std::ios::binary} << text;
  }
  fs::path path;
};

} // namespace

TEST_CASE("tojson writes what json.dumps writes", "[models][chat_template]") {
  CHECK(rendered("{{ x|tojson }}", R"("x":{"b":[1,2.0,true,null,"é<\"\n\u0001"],"a":{}})") ==
        "{\"b\": [1, 2.0, true, null, \"é<\\\"\\n\\u0001\"], \"a\": {}}");
  CHECK(rendered("{{ x|tojson(indent=2) }}", R"("x":{"b":[1],"a":{},"c":[]})") ==
        "{\n  \"b\": [\n    1\n  ],\n  \"a\": {},\n  \"c\": []\n}");
  CHECK(rendered("{{ x|tojson(sort_keys=true) }}", R"("x":{"b":1,"a":2})") ==
        R"({"a": 2, "b": 1})");
  CHECK(rendered("{{ x|tojson(ensure_ascii=true) }}", R"("x":"é😀")") == R"("\u00e9\ud83d\ude00")");
  CHECK(rendered("{{ x|tojson(separators=(',', ':')) }}", R"("x":{"a":[1,2]})") ==
        R"({"a":[1,2]})");
  CHECK(rendered("{{ x|tojson }}", R"("x":[1e-7,1e16,123456789.5,1e15,0.0001,-0.0])") ==
        "[1e-07, 1e+16, 123456789.5, 1000000000000000.0, 0.0001, -0.0]");
  CHECK_THAT(rendered("{{ missing|tojson }}"), Catch::Contains("not JSON serializable"));
}

TEST_CASE("values print as Python prints them", "[models][chat_template]") {
  CHECK(rendered("{{ x }}", R"("x":{"a":[1,2.5,null,true],"b":"it's \"so\"\n"})") ==
        R"({'a': [1, 2.5, None, True], 'b': 'it\'s "so"\n'})");
  CHECK(rendered("{{ x }}|{{ y }}|{{ z }}|{{ none }}|{{ missing }}",
                 R"("x":1e22,"y":false,"z":3)") == "1e+22|False|3|None|");
  CHECK(rendered("{{ 7 / 2 }} {{ 7 // 2 }} {{ 4 / 2 }}") == "3.5 3 2.0");
}

TEST_CASE("raise_exception's text is the error's text", "[models][chat_template]") {
  CHECK(rendered("{{ raise_exception('Roles must alternate!') }}") ==
        "template_failed: Roles must alternate!");
  CHECK(rendered("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}") ==
        "template_failed: deep");
}

TEST_CASE("strftime_now formats as Python does", "[models][chat_template]") {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  CHECK(rendered("{{ strftime_now('%d %b %Y %H:%M:%S') }}", "", 1700000000) ==
        "14 Nov 2023 22:13:20");
  CHECK(rendered("{{ strftime_now('%f|%z|%Z|%%|') }}", "", 1700000000) == "000000|||%|");
  CHECK(rendered("{{ strftime_now('') }}") == "");
  CHECK(rendered("{{ strftime_now('%Y') | int > 2020 }}", "", -1) == "True");
}

TEST_CASE("blocks are trimmed and line ends unified as transformers sets jinja2 up",
          "[models][chat_template]") {
  CHECK(rendered("a\r\n  {% if true %}\r\n  b\r\n  {% endif %}\r\nc\r\n") == "a\n  b\nc");
  CHECK(rendered("{%- for x in [1,2,3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}"
                 "{% endfor %}") == "13");
  CHECK(rendered("{% for x in [1,2,3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}"
                 "{% endfor %}") == "1");
}

TEST_CASE("generation blocks render their content", "[models][chat_template]") {
  CHECK(
      rendered("a{% generation %}b{% endgeneration %}c{%- generation -%} d {%- endgeneration %}") ==
      "abcd");
  CHECK(rendered("{{ generation }}{{ '{% generation' }}", R"("generation":1)") == "1{% generation");
}

TEST_CASE("Python's methods are there", "[models][chat_template]") {
  CHECK(rendered("{{ '  a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b'.split(',')[-1] }}|"
                 "{{ 'ab'.startswith('a') }}|{{ ' a  b '.split()|length }}") == "a b|a|b|True|2");
  CHECK(rendered("{{ '7'.zfill(3) }}|{{ '-7'.zfill(4) }}|{{ 'a'.center(4, '*') }}|"
                 "{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3) }}|{{ 'abc'.removeprefix('a') }}") ==
        "007|-007|*a**|a  |  a|bc");
  CHECK(rendered("{{ x.get('a') }}{{ x.get('b', 2) }}{% for k, v in x.items() %}{{ k }}{{ v }}"
                 "{% endfor %}",
                 R"("x":{"a":1})") == "12a1");
  CHECK(rendered("{{ 'a\\nb\\n\\nc'|indent(2) }}") == "a\n  b\n\n  c");
  CHECK(rendered("{{ '12'|int + 1 }}|{{ 'x'|int }}|{{ '2.9'|int }}|{{ 'x'|float }}|{{ 3|string + "
                 "'!' }}") == "13|0|2|0.0|3!");
}

TEST_CASE("tests follow Python's types", "[models][chat_template]") {
  CHECK(rendered("{{ none is iterable }}{{ 'a' is iterable }}{{ tools is iterable }}") ==
        "FalseTrueFalse");
  CHECK(rendered(
            "{{ 'a' is sequence }}{{ {} is sequence }}{{ 1 is sequence }}{{ none is sequence }}") ==
        "TrueTrueFalseFalse");
  CHECK(rendered("{{ x is mapping }}{{ x is string }}{{ y is defined }}", R"("x":{})") ==
        "TrueFalseFalse");
}

TEST_CASE("special tokens reach the template and a context may override them",
          "[models][chat_template]") {
  CHECK(rendered("{{ bos_token }}{{ eos_token }}{{ sep_token }}") == "<|endoftext|><|im_end|>");
  CHECK(rendered("{{ bos_token }}", R"("bos_token":"mine")") == "mine");
  CHECK(rendered("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}") ==
        "TrueTrueFalse");
}

TEST_CASE("a context must be an object with messages", "[models][chat_template]") {
  auto tpl = byte_chat_template();
  for (auto context : {"", "[]", "{", "{}", R"({"messages":[]})", R"({"messages":{}})",
                       R"({"messages":null})", "\xff"}) {
    auto text = tpl->render(context);
    REQUIRE_FALSE(text);
    CHECK(text.error() == caf::make_error(ec::invalid_request));
  }
  auto deep = R"({"messages":[)" + std::string(500, '[') + std::string(500, ']') + "]}";
  CHECK_FALSE(tpl->render(deep));
  auto nested = R"({"messages":[{"role":"user","content":"a"}],"x":)" + std::string(120, '[') +
                std::string(120, ']') + "}";
  CHECK(tpl->render(nested));
}

TEST_CASE("the final message can be continued", "[models][chat_template]") {
  auto tpl = byte_chat_template();
  auto context = [](std::string_view text, std::string_view more = "") {
    return R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":")" +
           std::string{text} + R"("}],"continue_final_message":true)" + std::string{more} + "}";
  };
  CHECK(get(tpl->render(context("Sure, "))) ==
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSure, ");
  CHECK_FALSE(tpl->render(context("Sure", R"(,"add_generation_prompt":true)")));
  CHECK(rendered("{{ messages[-1].content.strip() }}!", R"("continue_final_message":true)") ==
        "Hi");
  CHECK_THAT(rendered("{{ 'content' }}", R"("continue_final_message":true)"),
             Catch::Contains("drops or changes"));
}

TEST_CASE("a template that does not compile is refused with its line", "[models][chat_template]") {
  auto made = chat_template::compile("a\nb\n{% if %}", *byte_tokenizer());
  REQUIRE_FALSE(made);
  CHECK(made.error() == caf::make_error(ec::template_failed));
  CHECK_THAT(text_of(made.error()), Catch::Contains("line 3"));
  CHECK_FALSE(chat_template::compile("{{ \xff }}", *byte_tokenizer()));
  CHECK_FALSE(chat_template::compile(std::string(1 << 20, 'x'), *byte_tokenizer()));
}

TEST_CASE("templates that run away come to an end", "[models][chat_template]") {
  CHECK_THAT(
      rendered("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
      Catch::StartsWith("template_failed"));
  CHECK_THAT(rendered("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
             Catch::StartsWith("template_failed"));
  CHECK_THAT(rendered("{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}"),
             Catch::StartsWith("template_failed"));
  CHECK_THAT(rendered("{{ [][::-1] }}{{ 1 // 0 }}"), Catch::StartsWith("template_failed"));
}

TEST_CASE("deeply nested sources end in an error or a template, not in a dead process",
          "[models][chat_template]") {
  auto nest = [](std::string_view unit, size_t n, std::string_view core) {
    std::string source = "{{ ";
    for (size_t i = 0; i < n; ++i)
      source += unit;
    return source.append(core).append(" }}");
  };
  for (auto unit : {"not ", "-", "(", "[", "1+", "a.", "{'a':", "f(", "a|b|", "1 if a else ",
                    "a and ", "'", "\\'"})
    for (size_t n : {60, 8000, 60000})
      rendered(nest(unit, n, "a"));
  CHECK_THAT(rendered(nest("not ", 60000, "a")), Catch::Contains("too complex"));
  CHECK(rendered(nest("not ", 60, "none")) == "False");
  CHECK(rendered("{{ '" + std::string(300, '-') + "' }}") == std::string(300, '-'));
  std::string blocks;
  for (int i = 0; i < 12000; ++i)
    blocks += "{% if a %}";
  rendered(blocks);
  SUCCEED();
}

TEST_CASE("templates come from the folder in transformers' order", "[models][chat_template]") {
  folder f;
  auto tok = byte_tokenizer();
  CHECK(get(chat_template::open(f.path, *tok)) == nullptr);
  f.write("chat_template.json", R"({"chat_template":"from json"})");
  CHECK(*(*chat_template::open(f.path, *tok))->render(hello) == "from json");
  f.write("tokenizer_config.json", R"({"chat_template":"from config"})");
  CHECK(*(*chat_template::open(f.path, *tok))->render(hello) == "from config");
  f.write("chat_template.jinja", "from jinja\n");
  CHECK(*(*chat_template::open(f.path, *tok))->render(hello) == "from jinja");
  f.write("additional_chat_templates/rag.jinja", "for rag");
  auto several = chat_template::open(f.path, *tok);
  REQUIRE(several);
  CHECK((*several)->names() == std::vector<std::string>{"default", "rag"});
  CHECK(*(*several)->render(hello) == "from jinja");
  CHECK(*(*several)->render(hello, "rag") == "for rag");
  auto missing = (*several)->render(hello, "nothing");
  REQUIRE_FALSE(missing);
  CHECK_THAT(text_of(missing.error()), Catch::Contains("rag"));
}

TEST_CASE("of named templates, tool_use serves contexts with tools", "[models][chat_template]") {
  folder f;
  f.write("tokenizer_config.json", R"({"chat_template":[{"name":"default","template":"plain"},
    {"name":"tool_use","template":"tools: {{ tools|length }}"}]})");
  auto made = chat_template::open(f.path, *byte_tokenizer());
  REQUIRE(made);
  CHECK(*(*made)->render(hello) == "plain");
  CHECK(*(*made)->render(R"({"messages":[{}],"tools":[{},{}]})") == "tools: 2");
  CHECK(*(*made)->render(R"({"messages":[{}],"tools":null})") == "plain");
}

TEST_CASE("a folder's broken template is refused by name", "[models][chat_template]") {
  folder f;
  f.write("tokenizer_config.json", GENERATE(R"({"chat_template":"{% if %}"})",
                                            R"({"chat_template":17})", R"({"chat_template":[1]})"));
  auto made = chat_template::open(f.path, *byte_tokenizer());
  REQUIRE_FALSE(made);
  CHECK(made.error() == caf::make_error(ec::bad_model));
  CHECK_THAT(text_of(made.error()), Catch::Contains(f.path.string()));
}

TEST_CASE("a template may lie in a file of its own", "[models][chat_template]") {
  folder f;
  f.write("mine.jinja", "own: {{ messages[0].content }}");
  auto made = chat_template::open_file(f.path / "mine.jinja", *byte_tokenizer());
  REQUIRE(made);
  CHECK(get((*made)->render(hello)) == "own: Hi");
  f.write("broken.jinja", "line one\n{% if %}");
  auto broken = chat_template::open_file(f.path / "broken.jinja", *byte_tokenizer());
  REQUIRE(!broken);
  CHECK(code_of(broken.error()) == ec::bad_model);
  CHECK_THAT(text_of(broken.error()), Catch::Contains("broken.jinja") && Catch::Contains("line 2"));
  auto absent = chat_template::open_file(f.path / "absent.jinja", *byte_tokenizer());
  REQUIRE(!absent);
  CHECK_THAT(text_of(absent.error()), Catch::Contains("absent.jinja"));
  f.write("huge.jinja", std::string((1 << 20) + 1, 'x'));
  CHECK(!chat_template::open_file(f.path / "huge.jinja", *byte_tokenizer()));
}

TEST_CASE("threads share one template", "[models][chat_template]") {
  auto tpl = byte_chat_template();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i)
        wrong[t] += get(tpl->render(hello)) != "<|im_start|>user\nHi<|im_end|>\n";
    });
  for (auto& t : threads)
    t.join();
  CHECK(wrong == std::vector<int>(4, 0));
}
