#include "troupe/http/dialects/gathered_answer.hpp"
#include "troupe/http/dialects/tgi.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

/// @param special Prompt tokens go without the member, as TGI's do.
void append_token(std::string& out, const token_text& token, bool special = true,
                  std::string_view more = {}) {
  out += "{\"id\":";
  json::append_integer(out, token.id);
  out += ",\"text\":";
  json::append_string(out, more.empty() ? token.text : token.text + std::string{more});
  out += ",\"logprob\":";
  if (token.has_logprob)
    json::append_real(out, token.logprob);
  else
    out += "null";
  if (special)
    out += token.special ? ",\"special\":true" : ",\"special\":false";
  out += '}';
}

void append_tokens(std::string& out, const std::vector<token_text>& tokens, bool special = true) {
  out += '[';
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0)
      out += ',';
    append_token(out, tokens[i], special);
  }
  out += ']';
}

/// What an end is told with everywhere: reason, count and seed.
void append_end(std::string& out, const choice_event& end, const tgi_format& format) {
  out += "\"finish_reason\":";
  json::append_string(out, to_string_view(end.reason));
  out += ",\"generated_tokens\":";
  json::append_unsigned(out, end.generated_tokens);
  out += ",\"seed\":";
  if (format.seed)
    json::append_unsigned(out, *format.seed);
  else
    out += "null";
}

class whole_writer final : public answer_writer {
public:
  explicit whole_writer(tgi_format format)
      : format_(std::move(format)), gathered_(format_.choices) {}

  bool streams() const override { return false; }
  std::string_view content_type() const override { return "application/json"; }
  void fail(std::string_view, std::string&) override {}

  void take(size_t, event_batch& events, std::string& out) override {
    gathered_.take(events, format_.details);
    if (events.complete)
      write(out);
  }

private:
  void append_text(std::string& out, const gathered_choice& x) const {
    out += "\"generated_text\":";
    json::append_string(out, format_.prefix + x.end.generated_text);
  }

  void append_choice(std::string& out, const gathered_choice& x) const {
    append_end(out, x.end, format_);
    out += ",\"prefill\":";
    append_tokens(out, format_.prefill ? gathered_.prefill() : std::vector<token_text>{}, false);
    out += ",\"tokens\":";
    append_tokens(out, x.tokens);
    if (!format_.top_tokens)
      return;
    out += ",\"top_tokens\":[";
    for (size_t i = 0; i < x.top.size(); ++i) {
      if (i > 0)
        out += ',';
      append_tokens(out, x.top[i]);
    }
    out += ']';
  }

  void write(std::string& out) {
    gathered_.rank();
    const auto& choices = gathered_.choices();
    auto array = format_.shape == tgi_format::form::array;
    out += array ? "[{" : "{";
    append_text(out, choices.front());
    if (format_.details) {
      out += ",\"details\":{";
      append_choice(out, choices.front());
      if (choices.size() > 1)
        append_others(out);
      out += '}';
    }
    out += array ? "}]" : "}";
  }

  void append_others(std::string& out) const {
    const auto& choices = gathered_.choices();
    out += ",\"best_of_sequences\":[";
    for (size_t i = 1; i < choices.size(); ++i) {
      out += i > 1 ? ",{" : "{";
      append_text(out, choices[i]);
      out += ',';
      append_choice(out, choices[i]);
      out += '}';
    }
    out += ']';
  }

  tgi_format format_;
  gathered_answer gathered_;
};

/// One event per token, numbered from 1.
class event_writer final : public answer_writer {
public:
  explicit event_writer(tgi_format format) : format_(std::move(format)) {}

  bool streams() const override { return true; }
  std::string_view content_type() const override { return "text/event-stream"; }

  void take(size_t, event_batch& events, std::string& out) override {
    if (!events.prompt.empty())
      prompt_tokens_ = events.prompt.front().token_count;
    for (size_t i = 0; i < events.tokens.size(); ++i) {
      bool last = !events.ends.empty() && i + 1 == events.tokens.size();
      ++index_;
      write(out, events.tokens[i], last ? &events.ends.front() : nullptr);
    }
    // The end came after its token had left: the event repeats the token's id, without a number of
    // its own.
    if (events.tokens.empty() && !events.ends.empty()) {
      token_event again;
      again.token.id = last_id_;
      again.token.has_logprob = false;
      write(out, again, &events.ends.front());
    }
    if (!events.tokens.empty())
      last_id_ = events.tokens.back().token.id;
  }

  void fail(std::string_view object, std::string& out) override {
    out.append("data:").append(object).append("\n\n");
  }

private:
  void write(std::string& out, const token_event& event, const choice_event* end) const {
    out += "data:{\"index\":";
    json::append_unsigned(out, index_);
    out += ",\"token\":";
    append_token(out, event.token, true, end ? std::string_view{end->tail} : std::string_view{});
    if (!event.top.empty()) {
      out += ",\"top_tokens\":";
      append_tokens(out, event.top);
    }
    out += ",\"generated_text\":";
    if (end)
      json::append_string(out, format_.prefix + end->generated_text);
    else
      out += "null";
    out += ",\"details\":";
    if (end && format_.details) {
      out += '{';
      append_end(out, *end, format_);
      out += ",\"input_length\":";
      json::append_unsigned(out, prompt_tokens_);
      out += '}';
    } else {
      out += "null";
    }
    out += "}\n\n";
  }

  tgi_format format_;
  uint64_t index_ = 0;
  uint64_t prompt_tokens_ = 0;
  int32_t last_id_ = -1;
};

} // namespace

std::unique_ptr<answer_writer> make_tgi_writer(tgi_format format) {
  if (format.shape == tgi_format::form::events)
    return std::make_unique<event_writer>(std::move(format));
  return std::make_unique<whole_writer>(std::move(format));
}

} // namespace troupe::http
