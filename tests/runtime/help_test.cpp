#include "troupe/runtime/help.hpp"

#include <sstream>

#include <CLI/CLI.hpp>
#include <catch2/catch.hpp>

#include "troupe/runtime/commands.hpp"

using namespace troupe::runtime;

namespace {

struct program {
  CLI::App app{
      "A description that is itself so long that it has to go over more than a single line of help",
      "troupe"};
  command chosen;

  explicit program(size_t width = 80) {
    app.require_subcommand(1);
    app.formatter(help_formatter(width));
    add_serve(app, chosen);
    add_generate(app, chosen);
  }

  /// What is said about a command line that cannot be understood.
  std::string complaint(const std::string& line) {
    try {
      app.parse(line, false);
    } catch (const CLI::ParseError&) {
      return complaint_about_words(app);
    }
    return {};
  }
};

size_t longest_line(const std::string& text) {
  std::istringstream in{text};
  size_t longest = 0;
  for (std::string line; std::getline(in, line);)
    longest = std::max(longest, line.size());
  return longest;
}

} // namespace

TEST_CASE("text breaks between words, keeps its own lines and is indented from the second on",
          "[runtime][unit]") {
  CHECK(wrapped("one two three", 7) == "one two\nthree");
  CHECK(wrapped("one two three", 7, 2) == "one two\n  three");
  CHECK(wrapped("one\n  two", 20, 4) == "one\n      two");
  CHECK(wrapped("unbreakable word", 4) == "unbreakable\nword");
  CHECK(wrapped("", 4).empty());
}

TEST_CASE("help stays within its width and still says everything", "[runtime][unit]") {
  for (size_t width : {size_t{72}, size_t{100}}) {
    program p{width};
    CHECK(longest_line(p.app.help()) <= width);
    auto help = p.app.get_subcommand("serve")->help();
    CHECK(longest_line(help) <= width);
    CHECK(help.find("--max-rolling-batch-size VALUE") != std::string::npos);
    CHECK(help.find("OPTION_DTYPE") != std::string::npos);
  }
}

TEST_CASE("a mistyped word is named with what was probably meant", "[runtime][unit]") {
  CHECK(program{}
            .complaint("serve x --max-model-length 3")
            .find("\"--max-model-length\" is not a flag of "
                  "`troupe serve`; did you mean "
                  "--max-model-len?") == 0);
  CHECK(program{}.complaint("serve x --job-queue-sise=3").find("did you mean --job-queue-size?") !=
        std::string::npos);
  CHECK(program{}.complaint("generate x --promt y").find("did you mean --prompt?") !=
        std::string::npos);
  CHECK(program{}.complaint("serve x --tgi-compat true").find("-o option.tgi_compat=VALUE") !=
        std::string::npos);
  auto strange = program{}.complaint("serve x --frobnicate 3");
  CHECK(strange.find("\"--frobnicate\"") == 0);
  CHECK(strange.find("did you mean") == std::string::npos);
  CHECK(strange.find("`troupe serve --help`") != std::string::npos);
  CHECK(strange.ends_with("\nusage: troupe serve [FLAG ...] [PATH]"));
}

TEST_CASE("a word too many and a wrong subcommand are named", "[runtime][unit]") {
  CHECK(program{}.complaint("serve a b").find("\"b\" is one argument too many") == 0);
  CHECK(program{}.complaint("frob").find("\"frob\" is not a subcommand") == 0);
  CHECK(program{}.complaint("serve a").empty());
}
