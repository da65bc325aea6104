#include <catch2/catch.hpp>

#include <functional>
#include <random>

#include "../actors/life.hpp"
#include "events.hpp"
#include "troupe/http/dialects/lmi.hpp"
#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/dialects/openai_completions.hpp"
#include "troupe/http/dialects/tgi.hpp"
#include "troupe/http/json/write.hpp"

using namespace troupe;
using namespace troupe::http;

namespace {

/// What an answer says, whatever its form. Members that a form has no word for stay unset.
struct told {
  std::string text;
  std::string reason;
  std::optional<int64_t> count;
  std::vector<double> logprobs;
  std::vector<int64_t> ids;
  std::string pieces; ///< The tokens' own texts, joined.
  size_t records = 1;
};

const json::value& at(const json::value& from, std::string_view name) {
  auto* found = from.find(name);
  REQUIRE(found);
  return *found;
}

std::string text_at(const json::value& from, std::string_view name) {
  auto* text = at(from, name).as_string();
  REQUIRE(text);
  return *text;
}

void take_token(told& to, const json::value& token, std::string_view logprob) {
  to.ids.push_back(*at(token, "id").as_integer());
  to.logprobs.push_back(at(token, logprob).number());
  to.pieces += text_at(token, "text");
}

void take_end(told& to, const json::value& from) {
  to.text = text_at(from, "generated_text");
  const auto& details = at(from, "details");
  to.reason = text_at(details, "finish_reason");
  to.count = *at(details, "generated_tokens").as_integer();
}

/// The records of a stream; `data:` and [DONE] taken off.
std::vector<json::value> records_of(std::string_view text, std::string_view end) {
  std::vector<json::value> out;
  while (!text.empty()) {
    auto size = text.find(end);
    REQUIRE(size != std::string_view::npos);
    auto record = text.substr(0, size);
    text.remove_prefix(size + end.size());
    if (end == "\n\n") {
      REQUIRE(record.starts_with("data:"));
      record.remove_prefix(record.starts_with("data: ") ? 6 : 5);
    }
    if (record != "[DONE]")
      out.push_back(test::parsed(record));
  }
  return out;
}

told whole(const std::string& text, std::string_view logprob) {
  auto parsed = test::parsed(text);
  const auto& answer = parsed.as_array() ? parsed.as_array()->front() : parsed;
  told out;
  take_end(out, answer);
  for (const auto& token : *at(at(answer, "details"), "tokens").as_array())
    take_token(out, token, logprob);
  return out;
}

told lines(const std::string& text, std::string_view end, std::string_view logprob) {
  told out;
  auto records = records_of(text, end);
  out.records = records.size();
  for (const auto& record : records)
    take_token(out, at(record, "token"), logprob);
  take_end(out, records.back());
  return out;
}

void take_choice_logprobs(told& to, const json::value& choice) {
  const auto& logprobs = at(choice, "logprobs");
  if (auto* content = logprobs.find("content"))
    for (const auto& one : *content->as_array())
      to.logprobs.push_back(at(one, "logprob").number());
  if (auto* values = logprobs.find("token_logprobs"))
    for (const auto& one : *values->as_array())
      to.logprobs.push_back(one.number());
}

told choice_of(const std::string& text) {
  auto answer = test::parsed(text);
  const auto& choice = at(answer, "choices").as_array()->front();
  told out;
  out.text =
      choice.find("text") ? text_at(choice, "text") : text_at(at(choice, "message"), "content");
  out.reason = text_at(choice, "finish_reason");
  out.count = *at(at(answer, "usage"), "completion_tokens").as_integer();
  take_choice_logprobs(out, choice);
  return out;
}

told chunks(const std::string& text, std::string_view end) {
  told out;
  auto records = records_of(text, end);
  for (const auto& record : records) {
    if (auto* usage = record.find("usage"); usage && usage->as_object())
      out.count = *at(*usage, "completion_tokens").as_integer();
    if (at(record, "choices").as_array()->empty())
      continue;
    const auto& choice = at(record, "choices").as_array()->front();
    if (auto* delta = choice.find("delta")) {
      if (auto* content = delta->find("content"))
        out.text += *content->as_string();
    } else {
      out.text += text_at(choice, "text");
    }
    if (auto* reason = at(choice, "finish_reason").as_string()) {
      CHECK(out.reason.empty());
      out.reason = *reason;
    }
    take_choice_logprobs(out, choice);
  }
  return out;
}

/// What one trial asks for, in whatever form.
struct wish {
  std::vector<std::string> stops;
  int64_t most = 20;
  bool ignore_eos = false;
  bool include_stop = false;
  bool skip_special = true;

  json::object parameters(std::string_view limit) const {
    json::object out;
    out.emplace_back(limit, most);
    json::array list;
    for (const auto& stop : stops)
      list.emplace_back(stop);
    out.emplace_back("stop", std::move(list));
    out.emplace_back("ignore_eos", ignore_eos);
    out.emplace_back("include_stop_str_in_output", include_stop);
    out.emplace_back("skip_special_tokens", skip_special);
    return out;
  }

  json::value lmi(bool stream, const std::string& formatter) const {
    auto inner = parameters("max_new_tokens");
    inner.emplace_back("details", true);
    if (!formatter.empty())
      inner.emplace_back("output_formatter", formatter);
    json::object out;
    out.emplace_back("inputs", std::string{"Once"});
    out.emplace_back("parameters", std::move(inner));
    out.emplace_back("stream", stream);
    return json::value{std::move(out)};
  }

  json::value openai(bool stream, bool chat) const {
    auto out = parameters("max_tokens");
    out.emplace_back("temperature", int64_t{0});
    out.emplace_back("stream", stream);
    json::object options;
    options.emplace_back("include_usage", true);
    out.emplace_back("stream_options", std::move(options));
    if (!chat) {
      out.emplace_back("prompt", std::string{"Once"});
      out.emplace_back("logprobs", int64_t{1});
      return json::value{std::move(out)};
    }
    json::object message;
    message.emplace_back("role", std::string{"user"});
    message.emplace_back("content", std::string{"Once"});
    json::array messages;
    messages.emplace_back(std::move(message));
    out.emplace_back("messages", std::move(messages));
    out.emplace_back("logprobs", true);
    out.emplace_back("top_logprobs", int64_t{1});
    return json::value{std::move(out)};
  }
};

/// A text of any characters: its tokens are its bytes, some of them broken, some of them special.
std::vector<int32_t> random_tokens(std::mt19937& random, std::string& text) {
  std::vector<int32_t> out;
  const char32_t alphabet[] = {U'a',      U'b',      U'\n', U'"',    U'\\',
                               U'\0',     U'é',      U'ß',  U'Ω',    U'東',
                               U'\u200d', U'\ufffd', U'👩',  U'🏽', U'\U0010ffff'};
  while (out.size() < 80) {
    auto what = random() % 100;
    if (what < 3) {
      out.push_back(static_cast<int32_t>(256 + random() % 3));
    } else if (what < 10) {
      out.push_back(static_cast<int32_t>(random() % 256));
    } else {
      auto c = alphabet[random() % std::size(alphabet)];
      std::string bytes;
      if (c < 0x80) {
        bytes += static_cast<char>(c);
      } else if (c < 0x800) {
        bytes += static_cast<char>(0xC0 | (c >> 6));
        bytes += static_cast<char>(0x80 | (c & 63));
      } else if (c < 0x10000) {
        bytes += static_cast<char>(0xE0 | (c >> 12));
        bytes += static_cast<char>(0x80 | ((c >> 6) & 63));
        bytes += static_cast<char>(0x80 | (c & 63));
      } else {
        bytes += static_cast<char>(0xF0 | (c >> 18));
        bytes += static_cast<char>(0x80 | ((c >> 12) & 63));
        bytes += static_cast<char>(0x80 | ((c >> 6) & 63));
        bytes += static_cast<char>(0x80 | (c & 63));
      }
      text += bytes;
      for (auto byte : bytes)
        out.push_back(static_cast<unsigned char>(byte));
    }
  }
  return out;
}

bool begins_character(char c) {
  return (c & 0xC0) != 0x80;
}

/// A piece of `text`, from character to character; now and then with something in it that differs.
std::string random_stop(std::mt19937& random, const std::string& text) {
  auto begin = random() % text.size();
  while (!begins_character(text[begin]))
    --begin;
  auto end = begin + 1 + random() % 8;
  while (end < text.size() && !begins_character(text[end]))
    ++end;
  auto out = text.substr(begin, end - begin);
  if (random() % 4 == 0)
    out += "é";
  return out;
}

class forms : public test::life {
public:
  forms() { start(); }

  std::string answer(parsed_job parsed) {
    auto job = test::job_of(std::move(parsed));
    REQUIRE(job.requests.size() == 1);
    job.requests.front().model.clear();
    auto seen = generate(std::move(job.requests.front()));
    REQUIRE(seen->complete());
    std::string out;
    for (auto& batch : seen->batches)
      job.writer->take(0, batch, out);
    return out;
  }

  job_context lmi_context() { return {.settings = settings_of_dialects, .id = "id"}; }
  job_context v1_context() {
    auto out = lmi_context();
    out.v1_route = true;
    return out;
  }

  dialect_settings settings_of_dialects;
};

std::string openai_word(const std::string& reason) {
  return reason == "length" ? "length" : "stop";
}

} // namespace

TEST_CASE_METHOD(forms, "every form of an answer says the same", "[http][stream][property]") {
  constexpr int trials = 150;
  auto first = Catch::rngSeed();
  size_t stopped = 0;
  size_t cut_characters = 0;
  for (int trial = 0; trial < trials; ++trial) {
    CAPTURE(first, trial);
    std::mt19937 random{static_cast<uint32_t>(first + trial)};
    std::string text;
    auto tokens = random_tokens(random, text);
    model->next = [&](const std::vector<int32_t>& history, uint32_t prompt_length) {
      return tokens[(history.size() - prompt_length) % tokens.size()];
    };
    wish w;
    for (auto count = random() % 3; count > 0; --count)
      w.stops.push_back(random_stop(random, text));
    w.most = 1 + static_cast<int64_t>(random() % 60);
    w.ignore_eos = random() % 2 == 0;
    w.include_stop = random() % 2 == 0;
    w.skip_special = random() % 2 == 0;
    if (w.stops.empty())
      w.stops.emplace_back("never to be seen");

    auto lmi = lmi_context();
    auto v1 = v1_context();
    auto plain = whole(answer(parse_lmi(w.lmi(false, ""), lmi)), "log_prob");
    stopped += plain.reason == "stop_sequence" ? 1 : 0;
    cut_characters += plain.text.find("\xEF\xBF\xBD") != std::string::npos ? 1 : 0;
    CHECK(plain.ids.size() == static_cast<size_t>(*plain.count));
    if (plain.reason != "stop_sequence")
      CHECK(plain.pieces == plain.text);
    else
      CHECK(plain.pieces.starts_with(plain.text));

    auto same = [&](const told& other) {
      CHECK(other.text == plain.text);
      CHECK(other.reason == plain.reason);
      CHECK(other.count == plain.count);
      CHECK(other.ids == plain.ids);
      CHECK(other.logprobs == plain.logprobs);
    };
    auto same_stream = [&](const told& stream) {
      same(stream);
      CHECK(stream.pieces == stream.text);
      CHECK(stream.records == static_cast<size_t>(*stream.count));
    };
    same_stream(lines(answer(parse_lmi(w.lmi(true, ""), lmi)), "\n", "log_prob"));
    same_stream(lines(answer(parse_lmi(w.lmi(true, "sse"), lmi)), "\n\n", "log_prob"));
    same(whole(answer(parse_tgi_generate(w.lmi(false, ""), lmi)), "logprob"));
    same_stream(lines(answer(parse_tgi_stream(w.lmi(true, ""), lmi)), "\n\n", "logprob"));

    auto same_choice = [&](const told& other, bool openai_words) {
      CHECK(other.text == plain.text);
      CHECK(other.reason == (openai_words ? openai_word(plain.reason) : plain.reason));
      if (other.count)
        CHECK(other.count == plain.count);
      CHECK(other.logprobs == plain.logprobs);
    };
    same_choice(choice_of(answer(parse_chat(w.openai(false, true), v1))), true);
    same_choice(chunks(answer(parse_chat(w.openai(true, true), v1)), "\n\n"), true);
    same_choice(choice_of(answer(parse_chat(w.openai(false, true), lmi))), false);
    same_choice(chunks(answer(parse_chat(w.openai(true, true), lmi)), "\n"), false);
    same_choice(choice_of(answer(parse_completions(w.openai(false, false), v1))), true);
    same_choice(chunks(answer(parse_completions(w.openai(true, false), v1)), "\n\n"), true);
  }
  // Else the trials would have shown little.
  CHECK(stopped > trials / 10);
  CHECK(cut_characters > trials / 10);
}
