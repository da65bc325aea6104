#include <fstream>
#include <iterator>

#include <catch2/catch.hpp>

#include "troupe/config/render.hpp"

using namespace troupe::config;

TEST_CASE("docs/options.md is what the table says", "[config][render]") {
  std::ifstream in{TROUPE_SOURCE_DIR "/docs/options.md"};
  std::string committed(std::istreambuf_iterator<char>{in}, {});
  INFO("write it anew with: build/release/bin/troupe options --markdown > docs/options.md");
  CHECK(committed == options_markdown());
}

TEST_CASE("the page names every key, flag and variable", "[config][render]") {
  auto page = options_markdown();
  for (auto& o : option_table) {
    INFO(o.key);
    CHECK(page.find("| `" + std::string{o.key} + "` |") != std::string::npos);
    if (!o.flag.empty())
      CHECK(page.find("| `" + std::string{o.flag} + "`") != std::string::npos);
    if (auto variable = variable_of(o); !variable.empty())
      CHECK(page.find('`' + variable + '`') != std::string::npos);
  }
}

TEST_CASE("the list of options tells each value and its place", "[config][render]") {
  settings s;
  REQUIRE(s.set("option.dtype", "bf16", {source::file, "serving.properties:3"}));
  auto text = options_table(s);
  auto line = text.substr(text.find("option.dtype"));
  line = line.substr(0, line.find('\n'));
  CHECK(line.find(" bf16 ") != std::string::npos);
  CHECK(line.find("serving.properties:3") != std::string::npos);
  CHECK(text.find("option.max_model_len") != std::string::npos);
  CHECK(text.find("unset") != std::string::npos);
}

TEST_CASE("the list of options keeps secrets", "[config][render]") {
  settings s;
  REQUIRE(s.set("keystore_pass", "open-sesame"));
  auto text = options_table(s);
  CHECK(text.find("open-sesame") == std::string::npos);
  CHECK(text.find("***") != std::string::npos);
}

TEST_CASE("help says what is allowed and what happens otherwise", "[config][render]") {
  auto text = help_text(*find_option("option.max_rolling_batch_size"));
  CHECK(text.find("from 1 to 65536") != std::string::npos);
  CHECK(text.find("default: 32") != std::string::npos);
  CHECK(text.find("OPTION_MAX_ROLLING_BATCH_SIZE") != std::string::npos);
}
