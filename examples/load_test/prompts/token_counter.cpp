#include "troupe/examples/load_test/prompts/token_counter.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/client/fetch.hpp"
#include "troupe/examples/load_test/dialects/json_scan.hpp"
#include "troupe/models/tokenizer/chat_template.hpp"
#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe::load_test {

namespace {

namespace json = boost::json;

json::array one_message(const std::string& text) {
  return {{{"role", "user"}, {"content", text}}};
}

class local_counter final : public token_counter {
public:
  local_counter(std::string folder, tokenizer_ptr tokens, chat_template_ptr chat)
      : folder_{std::move(folder)}, tokens_{std::move(tokens)}, chat_{std::move(chat)} {}

  caf::expected<uint32_t> count(const std::string& text) override { return length(text, true); }

  caf::expected<uint32_t> count_chat(const std::string& text) override {
    if (!chat_)
      return caf::make_error(ec::bad_option, "--tokenizer " + folder_ +
                                                 " has no chat template; use --dialect openai");
    auto rendered = chat_->render(json::serialize(
        json::object{{"messages", one_message(text)}, {"add_generation_prompt", true}}));
    if (!rendered)
      return rendered.error();
    return length(*rendered, false);
  }

  std::string name() const override { return "the tokenizer in " + folder_; }

private:
  caf::expected<uint32_t> length(const std::string& text, bool special) const {
    auto ids = tokens_->encode(text, special);
    if (!ids)
      return ids.error();
    return static_cast<uint32_t>(ids->size());
  }

  std::string folder_;
  tokenizer_ptr tokens_;
  chat_template_ptr chat_;
};

class server_counter final : public token_counter {
public:
  server_counter(const target& to, std::string model) : to_{to}, model_{std::move(model)} {}

  caf::expected<uint32_t> count(const std::string& text) override {
    return ask({{"prompt", text}, {"add_special_tokens", true}});
  }

  caf::expected<uint32_t> count_chat(const std::string& text) override {
    return ask({{"messages", one_message(text)}, {"add_generation_prompt", true}});
  }

  std::string name() const override { return "the server's /tokenize"; }

private:
  caf::expected<uint32_t> ask(json::object body) {
    if (!model_.empty())
      body["model"] = model_;
    auto answer = fetch(to_, "POST", path_below(to_.where, "/tokenize"), json::serialize(body));
    if (!answer)
      return answer.error();
    if (answer->status != 200)
      return caf::make_error(ec::not_found, "/tokenize answered " + std::to_string(answer->status));
    std::optional<uint32_t> count;
    answer->body.reserve(answer->body.size() + json_padding);
    auto sound = scan_object({answer->body}, [&](od::raw_json_string key, od::value value) {
      if (key == "count")
        count = count_of(value);
    });
    if (!sound || !count)
      return caf::make_error(ec::not_found, "/tokenize answered without a \"count\"");
    return *count;
  }

  const target& to_;
  std::string model_;
};

} // namespace

caf::expected<std::unique_ptr<token_counter>> open_tokenizer(const std::filesystem::path& folder) {
  auto tokens = tokenizer::open(folder);
  if (!tokens)
    return tokens.error();
  auto chat = chat_template::open(folder, **tokens);
  if (!chat)
    return chat.error();
  return std::unique_ptr<token_counter>{
      std::make_unique<local_counter>(folder.string(), *tokens, *chat)};
}

caf::expected<std::unique_ptr<token_counter>> ask_server(const target& to, std::string model) {
  auto out = std::make_unique<server_counter>(to, std::move(model));
  if (auto works = out->count("the"); !works)
    return works.error();
  return std::unique_ptr<token_counter>{std::move(out)};
}

} // namespace troupe::load_test
