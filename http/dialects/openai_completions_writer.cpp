#include <algorithm>

#include "troupe/http/dialects/openai_completions.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

/// Characters, not bytes: text_offset counts as Python does.
size_t count_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// The four parallel arrays of a choice's "logprobs", grown token by token.
class logprob_arrays {
public:
  void add(const token_text& token, const std::vector<token_text>& top) {
    auto text = token_string(token);
    if (!tokens_.empty())
      for (auto* list : {&tokens_, &values_, &top_, &offsets_})
        *list += ',';
    json::append_string(tokens_, text);
    json::append_unsigned(offsets_, offset_);
    offset_ += count_characters(text);
    if (!token.has_logprob) {
      values_ += "null";
      top_ += "null";
      return;
    }
    json::append_real(values_, token.logprob);
    top_ += '{';
    if (top.empty())
      add_top(token, true);
    for (size_t i = 0; i < top.size(); ++i)
      add_top(top[i], i == 0);
    top_ += '}';
  }

  void append(std::string& out) const {
    out.append("{\"tokens\":[").append(tokens_);
    out.append("],\"token_logprobs\":[").append(values_);
    out.append("],\"top_logprobs\":[").append(top_);
    out.append("],\"text_offset\":[").append(offsets_).append("]}");
  }

  /// Forgets the tokens but not where the text has come to.
  void clear() {
    for (auto* list : {&tokens_, &values_, &top_, &offsets_})
      list->clear();
  }
  bool empty() const { return tokens_.empty(); }

private:
  void add_top(const token_text& token, bool first) {
    if (!first)
      top_ += ',';
    json::append_string(top_, token_string(token));
    top_ += ':';
    json::append_real(top_, token.logprob);
  }

  std::string tokens_, values_, top_, offsets_;
  size_t offset_ = 0;
};

/// The prompt's text: as given, or joined from its tokens.
std::string prompt_text(const openai_format& format, size_t part, const prompt_event& event) {
  if (part < format.prompt_texts.size() && !format.prompt_texts[part].empty())
    return format.prompt_texts[part];
  std::string out;
  for (const auto& token : event.tokens)
    out += token.bytes.empty() ? token.text : token.bytes;
  return out;
}

void add_prompt(logprob_arrays& to, const prompt_event& event) {
  static const std::vector<token_text> none;
  for (size_t i = 0; i < event.tokens.size(); ++i)
    to.add(event.tokens[i], i < event.top.size() ? event.top[i] : none);
}

class whole_writer final : public answer_writer {
public:
  explicit whole_writer(openai_format format)
      : format_(std::move(format)), choices_(size_t{format_.prompts} * format_.choices) {}

  bool streams() const override { return false; }
  std::string_view content_type() const override { return "application/json"; }
  void fail(std::string_view, std::string&) override {}

  void take(size_t part, event_batch& events, std::string& out) override {
    auto first = part * format_.choices;
    if (!events.prompt.empty())
      take_prompt(part, events.prompt.front());
    for (const auto& event : events.tokens)
      if (auto* to = at(first, event.choice); to && format_.logprobs && !format_.drop_tokens)
        to->logprobs.add(event.token, event.top);
    for (const auto& end : events.ends)
      if (auto* to = at(first, end.choice)) {
        to->reason = end.reason;
        if (format_.drop_tokens)
          continue;
        usage_.completion += end.generated_tokens;
        to->text += end.generated_text;
      }
    if (events.complete && ++complete_ == format_.prompts)
      write(out);
  }

private:
  struct choice {
    std::string text;
    logprob_arrays logprobs;
    finish_reason reason = finish_reason::none;
  };

  choice* at(size_t first, uint32_t index) {
    return index < format_.choices && first + index < choices_.size() ? &choices_[first + index]
                                                                      : nullptr;
  }

  void take_prompt(size_t part, const prompt_event& event) {
    usage_.prompt += event.token_count;
    if (!format_.echo)
      return;
    auto text = prompt_text(format_, part, event);
    for (uint32_t i = 0; i < format_.choices; ++i)
      if (auto* to = at(part * format_.choices, i)) {
        to->text = text;
        if (format_.logprobs)
          add_prompt(to->logprobs, event);
      }
  }

  void write(std::string& out) const {
    open_answer(out, format_, "text_completion");
    for (size_t i = 0; i < choices_.size(); ++i) {
      const auto& choice = choices_[i];
      out += i > 0 ? ",{\"index\":" : "{\"index\":";
      json::append_unsigned(out, i);
      out += ",\"text\":";
      json::append_string(out, choice.text);
      out += ",\"logprobs\":";
      if (format_.logprobs)
        choice.logprobs.append(out);
      else
        out += "null";
      close_choice(out, choice.reason, format_.openai_words);
    }
    close_answer(out, usage_);
  }

  openai_format format_;
  token_usage usage_;
  std::vector<choice> choices_;
  size_t complete_ = 0;
};

class chunk_writer final : public answer_writer {
public:
  explicit chunk_writer(openai_format format)
      : format_(std::move(format)), chunks_(format_, "text_completion"),
        logprobs_(format_.logprobs ? size_t{format_.prompts} * format_.choices : 0) {}

  bool streams() const override { return true; }
  std::string_view content_type() const override { return "text/event-stream"; }
  void fail(std::string_view object, std::string& out) override { chunks_.record(out, object); }

  void take(size_t part, event_batch& events, std::string& out) override {
    auto first = static_cast<uint32_t>(part) * format_.choices;
    if (!events.prompt.empty())
      take_prompt(out, part, events.prompt.front());
    for (const auto& event : events.tokens) {
      if (format_.drop_tokens)
        break;
      auto index = first + event.choice;
      if (index < logprobs_.size())
        logprobs_[index].add(event.token, event.top);
      write(out, index, event.token.text, finish_reason::none);
    }
    for (const auto& end : events.ends) {
      if (!format_.drop_tokens)
        usage_.completion += end.generated_tokens;
      write(out, first + end.choice, end.tail, end.reason);
    }
    if (events.complete && ++complete_ == format_.prompts)
      chunks_.finish(out, usage_);
  }

private:
  void take_prompt(std::string& out, size_t part, const prompt_event& event) {
    usage_.prompt += event.token_count;
    if (!format_.echo)
      return;
    auto text = prompt_text(format_, part, event);
    for (uint32_t i = 0; i < format_.choices; ++i) {
      auto index = static_cast<uint32_t>(part) * format_.choices + i;
      if (index < logprobs_.size())
        add_prompt(logprobs_[index], event);
      write(out, index, text, finish_reason::none);
    }
  }

  void write(std::string& out, uint32_t index, std::string_view text, finish_reason reason) {
    chunks_.open(out, index);
    out += ",\"text\":";
    json::append_string(out, text);
    out += ",\"logprobs\":";
    if (index < logprobs_.size() && !logprobs_[index].empty()) {
      logprobs_[index].append(out);
      logprobs_[index].clear();
    } else {
      out += "null";
    }
    chunks_.close(out, reason);
  }

  openai_format format_;
  chunk_maker chunks_;
  std::vector<logprob_arrays> logprobs_;
  token_usage usage_;
  size_t complete_ = 0;
};

} // namespace

std::unique_ptr<answer_writer> make_completions_writer(openai_format format) {
  if (format.frame == stream_frame::none)
    return std::make_unique<whole_writer>(std::move(format));
  return std::make_unique<chunk_writer>(std::move(format));
}

} // namespace troupe::http
