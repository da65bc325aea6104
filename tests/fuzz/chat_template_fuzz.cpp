#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "troupe/config/error.hpp"
#include "troupe/models/tokenizer/byte_tokenizer.hpp"
#include "troupe/models/tokenizer/chat_template.hpp"

using namespace troupe;

namespace {

/// The well-known templates among the goldens, compiled once.
const std::vector<chat_template_ptr>& templates() {
  static const auto all = [] {
    std::vector<chat_template_ptr> made;
    const std::filesystem::path folder{TROUPE_GOLDEN_DIR "/templates"};
    for (const auto& entry : std::filesystem::directory_iterator{folder}) {
      if (entry.path().extension() != ".jinja")
        continue;
      std::ostringstream source;
      source << std::ifstream{entry.path(), std::ios::binary}.rdbuf();
      auto one = chat_template::compile(source.str(), *byte_tokenizer());
      if (!one)
        std::abort();
      made.push_back(*one);
    }
    if (made.empty())
      std::abort();
    return made;
  }();
  return all;
}

} // namespace

/// The first byte chooses a template, or that the input is one; the rest is the conversation.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0)
    return 0;
  std::string_view rest{reinterpret_cast<const char*>(data) + 1, size - 1};
  auto chosen = templates()[data[0] % templates().size()];
  std::string_view context = rest;
  if (data[0] == 0xff) {
    auto made = chat_template::compile(rest, *byte_tokenizer());
    if (!made) {
      if (code_of(made.error()) != ec::template_failed)
        std::abort();
      return 0;
    }
    chosen = *made;
    context = R"({"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true})";
  }
  auto text = chosen->render_at(0, context);
  if (!text && code_of(text.error()) != ec::invalid_request &&
      code_of(text.error()) != ec::template_failed)
    std::abort();
  return 0;
}
