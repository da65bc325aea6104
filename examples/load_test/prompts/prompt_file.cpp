#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

#include <boost/json/parse.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/prompts/prompt_source.hpp"

namespace troupe::load_test {

namespace {

namespace json = boost::json;

/// What a conversation's user says, turn by turn; the first turn may bring messages in front.
struct conversation {
  std::vector<std::vector<chat_message>> turns;
  uint32_t output_tokens = 0;
};

class from_file final : public prompt_source {
public:
  from_file(std::vector<conversation> all, std::string name, length_distribution output,
            uint64_t seed)
      : all_{std::move(all)}, name_{std::move(name)}, output_{output}, seed_{seed} {}

  prompt make(uint64_t number, uint64_t turn) const override {
    const auto& c = all_[number % all_.size()];
    prompt out;
    out.messages = c.turns[turn % c.turns.size()];
    random_source random{seed_ ^ mix(number) ^ mix(~turn)};
    out.output_tokens = c.output_tokens > 0 ? c.output_tokens : output_.draw(random);
    return out;
  }

  std::string describe() const override {
    return std::to_string(all_.size()) + " prompts of " + name_;
  }

private:
  std::vector<conversation> all_;
  std::string name_;
  length_distribution output_;
  uint64_t seed_;
};

std::optional<std::string> text_in(const json::object& o, std::string_view name) {
  const auto* v = o.if_contains(name);
  if (!v || !v->is_string())
    return std::nullopt;
  return std::string{v->get_string()};
}

uint32_t output_tokens_in(const json::object& o) {
  for (const char* name : {"output_tokens", "max_tokens", "max_new_tokens", "output_len"})
    if (const auto* v = o.if_contains(name); v && v->is_int64() && v->get_int64() > 0)
      return static_cast<uint32_t>(std::min<int64_t>(v->get_int64(), 1 << 24));
  return 0;
}

/// Cuts messages into turns: each ends with a message of the user; what others say after the first
/// of these is left to the server.
void add_messages(conversation& to, const std::vector<chat_message>& messages) {
  std::vector<chat_message> before;
  for (const auto& m : messages) {
    if (m.role == "user") {
      if (!to.turns.empty())
        before.clear();
      before.push_back(m);
      to.turns.push_back(std::move(before));
      before.clear();
    } else if (to.turns.empty()) {
      before.push_back(m);
    }
  }
}

/// Nothing when the object is none of the known forms.
std::optional<conversation> read_object(const json::object& o) {
  conversation out;
  out.output_tokens = output_tokens_in(o);
  if (const auto* list = o.if_contains("messages"); list && list->is_array()) {
    std::vector<chat_message> messages;
    for (const auto& m : list->get_array()) {
      if (!m.is_object())
        return std::nullopt;
      auto role = text_in(m.get_object(), "role");
      auto content = text_in(m.get_object(), "content");
      if (!role || !content)
        return std::nullopt;
      messages.push_back({*role, *content});
    }
    add_messages(out, messages);
  } else if (const auto* said = o.if_contains("conversations"); said && said->is_array()) {
    std::vector<chat_message> messages;
    for (const auto& m : said->get_array()) {
      if (!m.is_object())
        return std::nullopt;
      auto who = text_in(m.get_object(), "from");
      auto what = text_in(m.get_object(), "value");
      if (!who || !what)
        return std::nullopt;
      auto role = *who == "human" || *who == "user" ? "user"
                  : *who == "system"                ? "system"
                                                    : "assistant";
      messages.push_back({role, *what});
    }
    add_messages(out, messages);
  } else {
    for (const char* name : {"prompt", "text", "inputs", "input"})
      if (auto text = text_in(o, name)) {
        out.turns.push_back({{"user", *text}});
        break;
      }
    if (out.turns.empty())
      return std::nullopt;
  }
  return out;
}

constexpr auto known_forms = "; known members: prompt, text, inputs, messages ([{role, content}]), "
                             "conversations ([{from, value}])";

caf::error bad_place(const std::string& name, const std::string& place, const std::string& why) {
  return caf::make_error(ec::bad_option, "--prompts " + name + ", " + place + ": " + why);
}

caf::expected<std::vector<conversation>> read_array(const json::array& list,
                                                    const std::string& name) {
  std::vector<conversation> out;
  for (size_t i = 0; i < list.size(); ++i) {
    auto place = "entry " + std::to_string(i + 1);
    std::optional<conversation> c;
    if (list[i].is_string())
      c = conversation{{{{"user", std::string{list[i].get_string()}}}}, 0};
    else if (list[i].is_object())
      c = read_object(list[i].get_object());
    if (!c)
      return bad_place(name, place, std::string{"not a prompt"} + known_forms);
    // ShareGPT has conversations in which nobody asks anything.
    if (!c->turns.empty())
      out.push_back(std::move(*c));
  }
  return out;
}

caf::expected<std::vector<conversation>> read_lines(std::string_view text,
                                                    const std::string& name) {
  std::vector<conversation> out;
  for (size_t number = 1; !text.empty(); ++number) {
    auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r')
      line.remove_suffix(1);
    if (line.empty())
      continue;
    auto place = "line " + std::to_string(number);
    if (line.front() != '{') {
      out.push_back({{{{"user", std::string{line}}}}, 0});
      continue;
    }
    json::error_code error;
    auto value = json::parse({line.data(), line.size()}, error);
    if (error)
      return bad_place(name, place, "no JSON: " + error.message());
    auto c = read_object(value.get_object());
    if (!c)
      return bad_place(name, place, std::string{"not a prompt"} + known_forms);
    if (!c->turns.empty())
      out.push_back(std::move(*c));
  }
  return out;
}

} // namespace

caf::expected<prompt_source_ptr> parse_prompts(std::string text, const std::string& name,
                                               length_distribution output, uint64_t seed) {
  auto all = [&]() -> caf::expected<std::vector<conversation>> {
    auto begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos || text[begin] != '[')
      return read_lines(text, name);
    json::error_code error;
    auto value = json::parse(text, error);
    // A text whose first line happens to begin with a bracket is no JSON, and is read as lines.
    if (error || !value.is_array())
      return read_lines(text, name);
    return read_array(value.get_array(), name);
  }();
  if (!all)
    return all.error();
  if (all->empty())
    return caf::make_error(ec::bad_option, "--prompts " + name + " holds no prompt");
  return prompt_source_ptr{std::make_shared<from_file>(std::move(*all), name, output, seed)};
}

caf::expected<prompt_source_ptr> open_prompts(const std::filesystem::path& file,
                                              length_distribution output, uint64_t seed) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return caf::make_error(ec::bad_option, "--prompts " + file.string() + " cannot be read");
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  return parse_prompts(std::move(text), file.string(), output, seed);
}

} // namespace troupe::load_test
