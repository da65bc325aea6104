#include "troupe/http/dialects/openai.hpp"

#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

void append_usage(std::string& out, const token_usage& usage) {
  out += "\"usage\":{\"prompt_tokens\":";
  json::append_unsigned(out, usage.prompt);
  out += ",\"completion_tokens\":";
  json::append_unsigned(out, usage.completion);
  out += ",\"total_tokens\":";
  json::append_unsigned(out, usage.prompt + usage.completion);
  out += '}';
}

} // namespace

std::string_view finish_word(finish_reason reason, bool openai_words) {
  if (!openai_words)
    return to_string_view(reason);
  switch (reason) {
  case finish_reason::length:
    return "length";
  case finish_reason::error:
    return "error";
  default:
    return "stop";
  }
}

void identify(openai_format& format, generation_request& request, const job_context& context,
              std::string_view named, std::string_view prefix, bool openai_words) {
  format.id = answer_id(prefix);
  format.created = unix_time();
  request.model = named_model(context, named);
  format.model = request.model.empty() ? context.settings.default_model : request.model;
  format.openai_words = context.settings.openai_finish_reasons.value_or(openai_words);
}

void open_answer(std::string& out, const openai_format& format, std::string_view object) {
  out += "{\"id\":";
  json::append_string(out, format.id);
  out += ",\"object\":";
  json::append_string(out, object);
  out += ",\"created\":";
  json::append_integer(out, format.created);
  out += ",\"model\":";
  json::append_string(out, format.model);
  if (!format.fingerprint.empty()) {
    out += ",\"system_fingerprint\":";
    json::append_string(out, format.fingerprint);
  }
  out += ",\"choices\":[";
}

void close_choice(std::string& out, finish_reason reason, bool openai_words) {
  out += ",\"finish_reason\":";
  if (reason == finish_reason::none)
    out += "null";
  else
    json::append_string(out, finish_word(reason, openai_words));
  out += '}';
}

void close_answer(std::string& out, const token_usage& usage) {
  out += "],";
  append_usage(out, usage);
  out += '}';
}

std::string token_string(const token_text& token) {
  return json::valid_utf8(token.bytes.empty() ? token.text : token.bytes);
}

chunk_maker::chunk_maker(const openai_format& format, std::string_view object)
    : sse_(format.frame == stream_frame::sse), words_(format.openai_words),
      usage_(format.include_usage), done_(format.final_chunk && sse_) {
  if (sse_)
    head_ = "data: ";
  open_answer(head_, format, object);
}

void chunk_maker::open(std::string& out, uint32_t index) const {
  out += head_;
  out += "{\"index\":";
  json::append_unsigned(out, index);
}

void chunk_maker::close(std::string& out, finish_reason reason) const {
  close_choice(out, reason, words_);
  out += usage_ ? "],\"usage\":null}" : "]}";
  out += sse_ ? "\n\n" : "\n";
}

void chunk_maker::finish(std::string& out, const token_usage& usage) const {
  if (usage_) {
    out += head_;
    close_answer(out, usage);
    out += sse_ ? "\n\n" : "\n";
  }
  if (done_)
    out += "data: [DONE]\n\n";
}

void chunk_maker::record(std::string& out, std::string_view object) const {
  if (sse_)
    out += "data: ";
  out += object;
  out += sse_ ? "\n\n" : "\n";
}

} // namespace troupe::http
