#include "troupe/actors/model.hpp"
#include "troupe/models/tokenizer/byte_tokenizer.hpp"

namespace troupe {

namespace {

/// A dummy model without a folder speaks bytes; with one it borrows the folder's tokenizer.
caf::expected<text_tools> open_text(const model_spec& spec) {
  text_tools tools;
  tools.trust_request_template = spec.trust_request_template;
  if (spec.load.dummy && spec.load.folder.empty()) {
    tools.tok = byte_tokenizer();
    tools.chat = byte_chat_template();
  } else {
    auto tok = tokenizer::open(spec.load.folder);
    if (!tok)
      return std::move(tok.error());
    tools.tok = std::move(*tok);
  }
  if (tools.chat && spec.chat_template.empty())
    return tools;
  auto chat = spec.chat_template.empty() ? chat_template::open(spec.load.folder, *tools.tok)
                                         : chat_template::open_file(spec.chat_template, *tools.tok);
  if (!chat)
    return std::move(chat.error());
  tools.chat = std::move(*chat);
  return tools;
}

} // namespace

model_factories default_factories() {
  model_factories factories;
  factories.plan = models::plan_model;
  factories.text = open_text;
  return factories;
}

} // namespace troupe
