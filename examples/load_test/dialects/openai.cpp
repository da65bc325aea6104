#include <boost/json/array.hpp>

#include "troupe/examples/load_test/dialects/dialect.hpp"
#include "troupe/examples/load_test/dialects/json_scan.hpp"

namespace troupe::load_test {

namespace {

namespace json = boost::json;

void read_usage(od::value value, answer_state& to) {
  if (is_null(value))
    return;
  for (auto field : value.get_object()) {
    auto key = field.key().value();
    if (key == "prompt_tokens")
      to.prompt_tokens = count_of(field.value().value());
    else if (key == "completion_tokens")
      to.output_tokens = count_of(field.value().value());
  }
}

/// A choice's "delta", "message" or the choice itself: whether it brings output.
bool read_output(od::value value, answer_state& to) {
  auto any = false;
  for (auto field : value.get_object()) {
    auto key = field.key().value();
    if (key == "content" || key == "text") {
      auto v = field.value().value();
      if (is_null(v) || !has_text(v))
        continue;
      any = true;
      if (to.wants_text)
        to.text += std::string_view{v.get_string()};
    } else if (key == "reasoning_content" || key == "reasoning") {
      any |= has_text(field.value().value());
    } else if (key == "tool_calls") {
      any |= !is_null(field.value().value());
    }
  }
  return any;
}

/// What chat and text completions have in common.
class openai_base : public dialect {
public:
  using dialect::dialect;

  bool read_event(json_view data, answer_state& to) const override {
    if (data.text == "[DONE]") {
      to.complete = true;
      return true;
    }
    return read(data, to);
  }

  bool read_whole(json_view data, answer_state& to) const override {
    auto understood = read(data, to);
    to.complete = understood;
    // The document is the output as a whole: no token of it came by itself.
    to.new_tokens = 0;
    return understood;
  }

protected:
  json::object common(const prompt& p) const {
    json::object out;
    if (!settings_.model.empty())
      out["model"] = settings_.model;
    if (p.output_tokens > 0)
      out["max_tokens"] = p.output_tokens;
    out["temperature"] = settings_.temperature;
    if (settings_.ignore_eos && p.output_tokens > 0)
      out["ignore_eos"] = true;
    out["stream"] = settings_.stream;
    if (settings_.stream)
      out["stream_options"] = {{"include_usage", true}};
    return out;
  }

private:
  static bool read(json_view data, answer_state& to) {
    auto choices = false;
    auto sound = scan_object(data, [&](od::raw_json_string key, od::value value) {
      if (key == "choices") {
        choices = true;
        for (auto choice : value.get_array())
          to.new_tokens += read_choice(choice.value(), to);
      } else if (key == "usage") {
        read_usage(value, to);
      } else if (key == "error") {
        to.error = words_of(value);
      }
    });
    return sound && choices;
  }

  static bool read_choice(od::value choice, answer_state& to) {
    auto any = false;
    for (auto field : choice.get_object()) {
      auto key = field.key().value();
      if (key == "delta" || key == "message") {
        any |= read_output(field.value().value(), to);
      } else if (key == "text") {
        auto v = field.value().value();
        any |= has_text(v);
        if (to.wants_text && any)
          to.text += std::string_view{v.get_string()};
      } else if (key == "finish_reason") {
        // Some servers send no [DONE].
        to.complete |= !is_null(field.value().value());
      }
    }
    return any;
  }
};

class openai_chat final : public openai_base {
public:
  using openai_base::openai_base;
  std::string_view name() const override { return "openai-chat"; }
  std::string path() const override { return "/v1/chat/completions"; }
  bool is_chat() const override { return true; }

private:
  json::object fields(const prompt& p) const override {
    auto out = common(p);
    json::array messages;
    for (const auto& m : p.messages)
      messages.push_back({{"role", m.role}, {"content", m.content}});
    out["messages"] = std::move(messages);
    return out;
  }
};

class openai_completions final : public openai_base {
public:
  using openai_base::openai_base;
  std::string_view name() const override { return "openai"; }
  std::string path() const override { return "/v1/completions"; }
  bool takes_ids() const override { return true; }

private:
  json::object fields(const prompt& p) const override {
    auto out = common(p);
    if (p.ids.empty())
      out["prompt"] = joined(p.messages);
    else
      out["prompt"] = json::array(p.ids.begin(), p.ids.end());
    return out;
  }
};

} // namespace

dialect_ptr make_openai_chat(dialect_settings settings) {
  return std::make_shared<openai_chat>(std::move(settings));
}

dialect_ptr make_openai(dialect_settings settings) {
  return std::make_shared<openai_completions>(std::move(settings));
}

} // namespace troupe::load_test
