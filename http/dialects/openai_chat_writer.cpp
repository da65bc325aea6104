#include <algorithm>

#include "troupe/http/dialects/openai_chat.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

void append_entry(std::string& out, const token_text& token) {
  out += "{\"token\":";
  json::append_string(out, token_string(token));
  out += ",\"logprob\":";
  json::append_real(out, token.logprob);
  out += ",\"bytes\":[";
  auto first = true;
  for (auto byte : token.bytes.empty() ? token.text : token.bytes) {
    if (!std::exchange(first, false))
      out += ',';
    json::append_unsigned(out, static_cast<unsigned char>(byte));
  }
  out += ']';
}

/// One entry of logprobs.content.
void append_logprob(std::string& out, const token_event& event) {
  append_entry(out, event.token);
  out += ",\"top_logprobs\":[";
  for (size_t i = 0; i < event.top.size(); ++i) {
    if (i > 0)
      out += ',';
    append_entry(out, event.top[i]);
    out += '}';
  }
  out += "]}";
}

class whole_writer final : public answer_writer {
public:
  explicit whole_writer(openai_format format)
      : format_(std::move(format)), choices_(format_.choices) {}

  bool streams() const override { return false; }
  std::string_view content_type() const override { return "application/json"; }
  void fail(std::string_view, std::string&) override {}

  void take(size_t, event_batch& events, std::string& out) override {
    if (!events.prompt.empty())
      usage_.prompt = events.prompt.front().token_count;
    for (const auto& event : events.tokens)
      if (format_.logprobs && event.choice < choices_.size()) {
        auto& to = choices_[event.choice].logprobs;
        if (!to.empty())
          to += ',';
        append_logprob(to, event);
      }
    for (auto& end : events.ends)
      if (end.choice < choices_.size()) {
        usage_.completion += end.generated_tokens;
        choices_[end.choice].end = std::move(end);
      }
    if (events.complete)
      write(out);
  }

private:
  struct choice {
    std::string logprobs; ///< Entries, ready.
    choice_event end;
  };

  void write(std::string& out) const {
    open_answer(out, format_, "chat.completion");
    for (size_t i = 0; i < choices_.size(); ++i) {
      const auto& choice = choices_[i];
      out += i > 0 ? ",{\"index\":" : "{\"index\":";
      json::append_unsigned(out, i);
      out += ",\"message\":{\"role\":\"assistant\",\"content\":";
      json::append_string(out, choice.end.generated_text);
      out += "},\"logprobs\":";
      if (format_.logprobs)
        out.append("{\"content\":[").append(choice.logprobs).append("]}");
      else
        out += "null";
      close_choice(out, choice.end.reason, format_.openai_words);
    }
    close_answer(out, usage_);
  }

  openai_format format_;
  token_usage usage_;
  std::vector<choice> choices_;
};

class chunk_writer final : public answer_writer {
public:
  explicit chunk_writer(const openai_format& format)
      : chunks_(format, "chat.completion.chunk"), started_(format.choices),
        sse_(format.frame == stream_frame::sse), final_chunk_(format.final_chunk),
        logprobs_(format.logprobs) {}

  bool streams() const override { return true; }
  std::string_view content_type() const override {
    return sse_ ? "text/event-stream" : "application/jsonlines";
  }
  void fail(std::string_view object, std::string& out) override { chunks_.record(out, object); }

  void take(size_t, event_batch& events, std::string& out) override {
    if (!events.prompt.empty())
      usage_.prompt = events.prompt.front().token_count;
    for (size_t i = 0; i < events.tokens.size(); ++i) {
      const auto& event = events.tokens[i];
      const auto* end = final_chunk_ ? nullptr : end_at(events, i);
      write(out, event.choice, event.token.text, &event, end ? end->reason : finish_reason::none);
    }
    for (const auto& end : events.ends)
      write_end(out, end, events);
    if (events.complete)
      chunks_.finish(out, usage_);
  }

private:
  /// The end of the choice whose last token stands at `i`.
  static const choice_event* end_at(const event_batch& events, size_t i) {
    auto choice = events.tokens[i].choice;
    for (auto later = i + 1; later < events.tokens.size(); ++later)
      if (events.tokens[later].choice == choice)
        return nullptr;
    for (const auto& end : events.ends)
      if (end.choice == choice)
        return &end;
    return nullptr;
  }

  void write_end(std::string& out, const choice_event& end, const event_batch& events) {
    usage_.completion += end.generated_tokens;
    auto with_token = std::any_of(events.tokens.begin(), events.tokens.end(),
                                  [&](const token_event& x) { return x.choice == end.choice; });
    if (final_chunk_) {
      if (!end.tail.empty())
        write(out, end.choice, end.tail, nullptr, finish_reason::none);
      chunks_.open(out, end.choice);
      out += ",\"delta\":{},\"logprobs\":null";
      chunks_.close(out, end.reason);
    } else if (!with_token) {
      write(out, end.choice, end.tail, nullptr, end.reason);
    }
  }

  void write(std::string& out, uint32_t choice, std::string_view text, const token_event* token,
             finish_reason reason) {
    chunks_.open(out, choice);
    out += ",\"delta\":{";
    if (choice < started_.size() && !started_[choice]) {
      started_[choice] = true;
      out += "\"role\":\"assistant\",";
    }
    out += "\"content\":";
    json::append_string(out, text);
    out += "},\"logprobs\":";
    if (logprobs_ && token) {
      out += "{\"content\":[";
      append_logprob(out, *token);
      out += "]}";
    } else {
      out += "null";
    }
    chunks_.close(out, reason);
  }

  chunk_maker chunks_;
  std::vector<bool> started_;
  token_usage usage_;
  bool sse_;
  bool final_chunk_;
  bool logprobs_;
};

} // namespace

std::unique_ptr<answer_writer> make_chat_writer(openai_format format) {
  if (format.frame == stream_frame::none)
    return std::make_unique<whole_writer>(std::move(format));
  return std::make_unique<chunk_writer>(format);
}

} // namespace troupe::http
