#include "troupe/examples/load_test/dialects/dialect.hpp"
#include "troupe/examples/load_test/dialects/json_scan.hpp"

namespace troupe::load_test {

namespace {

namespace json = boost::json;

void read_details(od::value value, answer_state& to) {
  if (is_null(value))
    return;
  for (auto field : value.get_object()) {
    auto key = field.key().value();
    if (key == "generated_tokens")
      to.output_tokens = count_of(field.value().value());
    else if (key == "input_length")
      to.prompt_tokens = count_of(field.value().value());
  }
}

void read_generated(od::value value, answer_state& to) {
  if (is_null(value))
    return;
  // A number or object here is not what was promised: get_string() says so.
  std::string_view text = value.get_string();
  to.complete = true;
  if (to.wants_text)
    to.text = text;
}

/// LMI and TGI answer alike: "token" per event, "generated_text" and "details" at the end.
class generate_base : public dialect {
public:
  using dialect::dialect;

  bool read_event(json_view data, answer_state& to) const override {
    auto token = false;
    auto sound = scan_object(data, [&](od::raw_json_string key, od::value value) {
      if (key == "token")
        token = !is_null(value);
      else
        read_member(key, value, to);
    });
    to.new_tokens += token;
    return sound && (token || to.complete);
  }

  bool read_whole(json_view data, answer_state& to) const override {
    // With TGI's compatibility on, servers wrap the object in an array of one.
    auto text = data.text;
    auto trim = [&](std::string_view ends) {
      auto space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
      while (!text.empty() && space(text.front()))
        text.remove_prefix(1);
      while (!text.empty() && space(text.back()))
        text.remove_suffix(1);
      if (text.size() >= 2 && text.front() == ends[0] && text.back() == ends[1])
        text = text.substr(1, text.size() - 2);
    };
    trim("[]");
    auto sound = scan_object(
        {text}, [&](od::raw_json_string key, od::value value) { read_member(key, value, to); });
    return sound && to.complete;
  }

private:
  static void read_member(od::raw_json_string key, od::value value, answer_state& to) {
    if (key == "generated_text")
      read_generated(value, to);
    else if (key == "details")
      read_details(value, to);
    else if (key == "error")
      to.error = words_of(value);
  }
};

class lmi final : public generate_base {
public:
  using generate_base::generate_base;
  std::string_view name() const override { return "lmi"; }
  std::string path() const override { return "/invocations"; }
  bool streams() const override { return settings_.stream && settings_.lmi != lmi_format::json; }

private:
  json::object fields(const prompt& p) const override {
    json::object parameters;
    if (p.output_tokens > 0)
      parameters["max_new_tokens"] = p.output_tokens;
    if (settings_.ignore_eos && p.output_tokens > 0)
      parameters["ignore_eos_token"] = true;
    if (settings_.temperature > 0)
      parameters["temperature"] = settings_.temperature;
    parameters["do_sample"] = settings_.temperature > 0;
    // What comes at once tells its number of tokens only in the details.
    if (!streams())
      parameters["details"] = true;
    parameters["output_formatter"] = !streams()                         ? "json"
                                     : settings_.lmi == lmi_format::sse ? "sse"
                                                                        : "jsonlines";
    return {{"inputs", joined(p.messages)},
            {"parameters", std::move(parameters)},
            {"stream", streams()}};
  }
};

class tgi final : public generate_base {
public:
  using generate_base::generate_base;
  std::string_view name() const override { return "tgi"; }
  std::string path() const override { return settings_.stream ? "/generate_stream" : "/generate"; }

private:
  json::object fields(const prompt& p) const override {
    json::object parameters{{"details", true}, {"do_sample", settings_.temperature > 0}};
    if (p.output_tokens > 0)
      parameters["max_new_tokens"] = p.output_tokens;
    if (settings_.ignore_eos && p.output_tokens > 0)
      parameters["ignore_eos_token"] = true;
    if (settings_.temperature > 0)
      parameters["temperature"] = settings_.temperature;
    return {{"inputs", joined(p.messages)}, {"parameters", std::move(parameters)}};
  }
};

} // namespace

dialect_ptr make_lmi(dialect_settings settings) {
  return std::make_shared<lmi>(std::move(settings));
}

dialect_ptr make_tgi(dialect_settings settings) {
  return std::make_shared<tgi>(std::move(settings));
}

} // namespace troupe::load_test
