#include "troupe/http/dialects/gathered_answer.hpp"
#include "troupe/http/dialects/lmi.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

/// What both forms share: names of the dialect and the details object.
class lmi_writer : public answer_writer {
public:
  explicit lmi_writer(lmi_format format) : format_(std::move(format)) {}

protected:
  /// @param more Text that belongs to the token although it came later.
  void append_token(std::string& out, const token_text& token, std::string_view more = {}) const {
    out += "{\"id\":";
    json::append_integer(out, token.id);
    out += ",\"text\":";
    if (more.empty())
      json::append_string(out, token.text);
    else
      json::append_string(out, token.text + std::string{more});
    out += format_.tgi ? ",\"logprob\":" : ",\"log_prob\":";
    if (token.has_logprob)
      json::append_real(out, token.logprob);
    else
      out += "null";
    if (token.special)
      out += format_.tgi ? ",\"special\":true" : ",\"special_token\":true";
    out += '}';
  }

  void append_tokens(std::string& out, const std::vector<token_text>& tokens) const {
    out += '[';
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0)
        out += ',';
      append_token(out, tokens[i]);
    }
    out += ']';
  }

  void append_top(std::string& out, const std::vector<std::vector<token_text>>& top) const {
    out += ",\"top_tokens\":[";
    for (size_t i = 0; i < top.size(); ++i) {
      if (i > 0)
        out += ',';
      append_tokens(out, top[i]);
    }
    out += ']';
  }

  void append_text(std::string& out, const choice_event& end) const {
    out += "\"generated_text\":";
    json::append_string(out, format_.full_text ? format_.inputs + end.generated_text
                                               : end.generated_text);
  }

  static void append_end(std::string& out, const choice_event& end) {
    out += "\"finish_reason\":";
    json::append_string(out, to_string_view(end.reason));
    out += ",\"generated_tokens\":";
    json::append_unsigned(out, end.generated_tokens);
  }

  lmi_format format_;
};

/// One object when everything is there.
class whole_writer final : public lmi_writer {
public:
  explicit whole_writer(lmi_format format)
      : lmi_writer(std::move(format)), gathered_(format_.choices) {}

  bool streams() const override { return false; }
  std::string_view content_type() const override { return "application/json"; }
  void fail(std::string_view, std::string&) override {}

  void take(size_t, event_batch& events, std::string& out) override {
    gathered_.take(events, format_.details || format_.choices > 1);
    if (events.complete)
      write(out);
  }

private:
  void append_choice(std::string& out, const gathered_choice& x) const {
    append_end(out, x.end);
    out += ",\"tokens\":";
    append_tokens(out, x.tokens);
    if (format_.prefill) {
      out += ",\"prefill\":";
      append_tokens(out, gathered_.prefill());
    }
    if (format_.top_tokens)
      append_top(out, x.top);
  }

  void write(std::string& out) {
    gathered_.drop_missing();
    if (!format_.ranked)
      gathered_.rank();
    const auto& choices = gathered_.choices();
    const auto& best = choices.front();
    out += format_.tgi ? "[{" : "{";
    append_text(out, best.end);
    if (format_.details || choices.size() > 1) {
      out += ",\"details\":{\"inputs\":";
      json::append_string(out, format_.inputs);
      out += ',';
      append_choice(out, best);
      if (choices.size() > 1)
        append_others(out);
      out += '}';
    }
    out += format_.tgi ? "}]" : "}";
  }

  void append_others(std::string& out) const {
    const auto& choices = gathered_.choices();
    out += ",\"best_of_sequences\":[";
    for (size_t i = 1; i < choices.size(); ++i) {
      out += i > 1 ? ",{" : "{";
      append_choice(out, choices[i]);
      out += ',';
      append_text(out, choices[i].end);
      out += '}';
    }
    out += ']';
  }

  gathered_answer gathered_;
};

/// One line or event per token.
class line_writer final : public lmi_writer {
public:
  using lmi_writer::lmi_writer;

  bool streams() const override { return true; }
  std::string_view content_type() const override {
    return sse() ? "text/event-stream" : "application/jsonlines";
  }

  void take(size_t, event_batch& events, std::string& out) override {
    for (size_t i = 0; i < events.tokens.size(); ++i) {
      auto& event = events.tokens[i];
      if (format_.top_tokens && format_.details)
        top_.push_back(event.top);
      bool last = !events.ends.empty() && i + 1 == events.tokens.size();
      write(out, event.token, last ? &events.ends.front() : nullptr);
    }
    // The end came after its token had left: a record without one would be no token line.
    if (events.tokens.empty() && !events.ends.empty()) {
      token_text again;
      again.id = last_id_;
      again.has_logprob = false;
      write(out, again, &events.ends.front());
    }
    if (!events.tokens.empty())
      last_id_ = events.tokens.back().token.id;
  }

  void fail(std::string_view object, std::string& out) override {
    open(out);
    out += object;
    close(out);
  }

private:
  bool sse() const { return format_.frame == lmi_format::framing::sse; }
  void open(std::string& out) const {
    if (sse())
      out += "data: ";
  }
  void close(std::string& out) const { out += sse() ? "\n\n" : "\n"; }

  void write(std::string& out, const token_text& token, const choice_event* end) {
    open(out);
    out += "{\"token\":";
    append_token(out, token, end ? std::string_view{end->tail} : std::string_view{});
    if (end) {
      out += ',';
      append_text(out, *end);
      if (format_.details) {
        out += ",\"details\":{\"inputs\":";
        json::append_string(out, format_.inputs);
        out += ',';
        append_end(out, *end);
        if (format_.top_tokens)
          append_top(out, top_);
        out += '}';
      }
    }
    out += '}';
    close(out);
  }

  std::vector<std::vector<token_text>> top_;
  int32_t last_id_ = -1;
};

} // namespace

std::unique_ptr<answer_writer> make_lmi_writer(lmi_format format) {
  if (format.frame == lmi_format::framing::json)
    return std::make_unique<whole_writer>(std::move(format));
  return std::make_unique<line_writer>(std::move(format));
}

} // namespace troupe::http
