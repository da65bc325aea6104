#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include "troupe/models/tokenizer/chat_template.hpp"

using namespace troupe;
namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr int64_t now = 1700000000;

/// TROUPE_TEMPLATE_GOLDENS names another folder, made by make_template_goldens.py from more
/// templates than are committed.
fs::path golden_folder() {
  if (auto other = std::getenv("TROUPE_TEMPLATE_GOLDENS"))
    return other;
  return fs::path{TROUPE_GOLDEN_DIR} / "templates";
}

std::string read(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  REQUIRE(in);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

tokenizer_ptr roles_only() {
  auto made = tokenizer::parse(
      R"({"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,
      "post_processor":null,"decoder":null,"model":{"type":"BPE","vocab":{},"merges":[]}})",
      R"({"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>"})");
  REQUIRE(made);
  return *made;
}

std::vector<std::string> template_names() {
  std::vector<std::string> out;
  for (auto& entry : fs::directory_iterator{golden_folder()})
    if (entry.path().extension() == ".jinja")
      out.push_back(entry.path().stem().string());
  std::sort(out.begin(), out.end());
  return out;
}

} // namespace

TEST_CASE("rendered chats equal transformers'", "[models][chat_template][golden]") {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  auto tok = roles_only();
  auto folder = golden_folder();
  auto conversations = json::parse(read(folder / "conversations.json"));
  auto names = template_names();
  CHECK(names.size() >= 8);
  CHECK(conversations.as_array().size() >= 30);
  size_t equal = 0, raised = 0, laxer = 0;
  for (auto& name : names) {
    auto made = chat_template::compile(read(folder / (name + ".jinja")), *tok);
    INFO(name << ": " << (made ? "" : text_of(made.error())));
    CHECK(made);
    if (!made)
      continue;
    auto expected = json::parse(read(folder / (name + ".expected.json")));
    for (size_t i = 0; i < conversations.as_array().size(); ++i) {
      auto context = json::serialize(conversations.as_array()[i]);
      INFO("conversation " << i << ": " << context);
      auto& wanted = expected.as_array()[i];
      auto text = (*made)->render_at(now, context);
      auto got = text ? *text : text_of(text.error());
      if (wanted.is_null()) {
        laxer += text.engaged();
      } else if (auto exact = wanted.as_object().if_contains("text")) {
        CHECK(got == json::value_to<std::string>(*exact));
        equal += text.engaged();
      } else {
        CHECK_FALSE(text);
        CHECK(got == json::value_to<std::string>(wanted.at("raises")));
        ++raised;
      }
    }
  }
  CHECK(equal > 8 * 20);
  CHECK(raised > 0);
  if (std::getenv("TROUPE_TEMPLATE_GOLDENS"))
    WARN(names.size() << " templates: " << equal << " equal texts, " << raised
                      << " equal refusals; rendered where Python fails: " << laxer);
}
