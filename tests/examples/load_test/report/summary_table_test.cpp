#include "troupe/examples/load_test/report/summary_table.hpp"

#include <sstream>

#include <catch2/catch.hpp>

#include "troupe/examples/load_test/report/escape.hpp"
#include "troupe/examples/load_test/report/format.hpp"

#include "runs.hpp"

using namespace troupe::load_test;
using namespace troupe::load_test::report;
using namespace troupe::load_test::test;

namespace {

summary spoilt_run() {
  auto run = make_run({.seconds = 5});
  for (auto& r : run.requests)
    r.sent = r.scheduled + 30_ms;
  add_failure(run, 1_s, outcome::http_error, 500);
  run.failure_texts.emplace_back(outcome::http_error, "\x1b]0;owned\x07 evil \x1b[2J");
  run.what.url = "http://h/\x1b[31m";
  return summarize(run, *parse_objectives("ttft_p50=1ms,e2e_p50=10s"));
}

bool has(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("the table shows figures, objectives, failures and what spoilt them",
          "[load_test][table]") {
  test_report report{{{{spoilt_run()}}}, "", std::nullopt};
  auto plain = summary_table(report, {});
  INFO(plain);
  CHECK(has(plain, "1 FAILED (1 http_error)"));
  CHECK(has(plain, "MISSED  ttft_p50=1ms"));
  CHECK(has(plain, "met     e2e_p50=10s"));
  CHECK(has(plain, "SPOILT  The generator sent late"));
  CHECK(has(plain, "first token"));
  CHECK(!has(plain, "\x1b"));
  auto coloured = summary_table(report, {true, true, 100});
  CHECK(has(coloured, "\x1b[1;31mMISSED\x1b[0m"));
  CHECK(has(coloured, "\x1b[1;31mSPOILT"));
  // What the server said drives no terminal.
  CHECK(!has(coloured, "\x1b]0"));
  CHECK(!has(coloured, "\x1b[2J"));
  CHECK(has(coloured, "\\x1b[2J"));
}

TEST_CASE("lines fit the terminal", "[load_test][table]") {
  auto point = load_point{{spoilt_run()}};
  for (auto& report :
       {test_report{{point}, "", std::nullopt}, test_report{{point, point}, "rate", {}}})
    for (size_t width : {60U, 80U, 132U}) {
      std::istringstream lines{summary_table(report, {true, true, width})};
      for (std::string line; std::getline(lines, line);) {
        INFO(line);
        CHECK(columns(line) <= width);
      }
    }
}

TEST_CASE("a narrow terminal shows fewer columns, none of them cut", "[load_test][table]") {
  test_report report{{{{spoilt_run()}}}, "", std::nullopt};
  auto wide = summary_table(report, {true, false, 120});
  CHECK(has(wide, "samples\n"));
  auto narrow = summary_table(report, {true, false, 80});
  INFO(narrow);
  CHECK(has(narrow, "p99.9 "));
  CHECK(!has(narrow, "samp"));
  test_report sweep{{{{spoilt_run()}}, {{spoilt_run()}}}, "rate", std::nullopt};
  CHECK(has(summary_table(sweep, {true, false, 60}), "MISSED"));
}

TEST_CASE("a sweep has a line for each load", "[load_test][table]") {
  auto slow = summarize(make_run({.seconds = 5, .rate = 20}), {});
  auto fast = summarize(make_run({.seconds = 5, .rate = 30}), *parse_objectives("ttft_p50=1ms"));
  test_report report{
      {{{slow}}, {{fast}}}, "rate", search_answer{std::nullopt, "even 20 is too much"}};
  auto text = summary_table(report, {});
  INFO(text);
  CHECK(has(text, "rate/s"));
  CHECK(has(text, "\n  20 "));
  CHECK(has(text, "\n  30 "));
  CHECK(has(text, "MISSED"));
  CHECK(has(text, "no load keeps the objectives; even 20 is too much"));
}

TEST_CASE("texts are made harmless for where they are shown", "[load_test][escape]") {
  CHECK(html_text("<b a=\"1\" c='2'>&</b>") ==
        "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;&lt;/b&gt;");
  CHECK(html_text("a\x01\xff z") == "a\xEF\xBF\xBD\xEF\xBF\xBD z");
  CHECK(csv_text("plain") == "plain");
  CHECK(csv_text("a,b\"c") == "\"a,b\"\"c\"");
  CHECK(csv_text("=cmd|' /C calc'!A0") == "'=cmd|' /C calc'!A0");
  CHECK(csv_text("@x") == "'@x");
  CHECK(csv_text("a\r\nb") == "a  b");
  CHECK(terminal_text("a\x1b[31mb\nc\x7f") == "a\\x1b[31mb\\x0ac\\x7f");
  CHECK(terminal_text("x\xE2\x80\xAEy") == "x\\u202ey");
  CHECK(terminal_text("\xC2\x9B"
                      "31m") == "\\x9b31m"); // CSI as one C1 character
  CHECK(terminal_text("abcdefgh", 6) == "abc...");
  CHECK(terminal_text("abcdef", 6) == "abcdef");
  CHECK(terminal_text("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4", 4) == "\xC3\xA4...");
  CHECK(columns("\x1b[1;31mab\xC3\xA4\x1b[0m") == 3);
  CHECK(cut_to_columns("\x1b[1;31mabcdef\x1b[0mgh", 3) == "\x1b[1;31mabc\x1b[0m");
}

TEST_CASE("numbers are short and carry their unit", "[load_test][format]") {
  CHECK(format_ms(0) == "0 ms");
  CHECK(format_ms(0.0354) == "35.4 us");
  CHECK(format_ms(0.99999) == "1 ms");
  CHECK(format_ms(12.345) == "12.3 ms");
  CHECK(format_ms(999.7) == "1 s");
  CHECK(format_ms(1234) == "1.23 s");
  CHECK(format_ms(123'000) == "2 min 3 s");
  CHECK(format_number(0) == "0");
  CHECK(format_number(0.05) == "0.05");
  CHECK(format_number(1234.5) == "1,235");
  CHECK(format_number(12'300'000) == "12.3 M");
  CHECK(format_percent(0.004) == "0.4 %");
  CHECK(format_percent(0.93) == "93 %");
  CHECK(format_clock(3723) == "1:02:03");
  CHECK(format_clock(67) == "1:07");
}
