#include <boost/json/array.hpp>

#include "troupe/examples/load_test/dialects/dialect.hpp"
#include "troupe/examples/load_test/dialects/json_scan.hpp"

namespace troupe::load_test {

namespace {

namespace json = boost::json;

/// The tasks of LMI other than generation: one document in, one out, no tokens.
class task final : public dialect {
public:
  using dialect::dialect;
  std::string_view name() const override { return "task"; }
  std::string path() const override {
    return settings_.model.empty() ? "/invocations" : "/predictions/" + settings_.model;
  }
  bool streams() const override { return false; }
  bool generates() const override { return false; }

  bool read_event(json_view, answer_state&) const override { return false; }

  bool read_whole(json_view data, answer_state& to) const override {
    try {
      od::document document =
          scanner().iterate(data.text.data(), data.text.size(), data.text.size() + json_padding);
      auto type = document.type().value();
      if (type == od::json_type::array)
        for (auto item : document.get_array()) {
          item.value().type().value();
          to.complete = true;
        }
      else if (type == od::json_type::object)
        for (auto field : document.get_object()) {
          to.complete = true;
          if (field.key().value() == "error")
            to.error = words_of(field.value().value());
        }
      return to.complete && at_end(document);
    } catch (const simdjson::simdjson_error&) {
      return false;
    }
  }

private:
  json::object fields(const prompt& p) const override {
    return {{"inputs", inputs(joined(p.messages))}};
  }

  json::value inputs(const std::string& text) const {
    const auto& name = settings_.task;
    auto half = text.find(' ', text.size() / 2);
    half = half == std::string::npos ? text.size() : half;
    if (name == "fill-mask")
      return json::value(text.substr(0, half) + " " + settings_.mask_token + text.substr(half));
    if (name == "question-answering")
      return {{"question", "What is said about " + text.substr(0, text.find(' ')) + "?"},
              {"context", text}};
    if (name == "table-question-answering")
      return {{"query", "How many are there of " + text.substr(0, text.find(' ')) + "?"},
              {"table",
               {{"name", json::array{text.substr(0, half), text.substr(half)}},
                {"count", json::array{"3", "5"}}}}};
    if (name == "multiple-choice")
      return {{"prompt", text}, {"choices", json::array{text.substr(0, half), text.substr(half)}}};
    return json::value(text);
  }
};

} // namespace

dialect_ptr make_task(dialect_settings settings) {
  return std::make_shared<task>(std::move(settings));
}

} // namespace troupe::load_test
