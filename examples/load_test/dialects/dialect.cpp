#include "troupe/examples/load_test/dialects/dialect.hpp"

#include <algorithm>

#include <boost/json/serialize.hpp>

#include "troupe/config/error.hpp"
#include "troupe/examples/load_test/dialects/json_scan.hpp"

namespace troupe::load_test {

namespace {

constexpr size_t shown_of_body = 200;
constexpr int first_error_status = 400;

framer::form form_of(std::string_view content_type) {
  auto is = [&](std::string_view name) {
    return content_type.size() >= name.size() &&
           std::equal(name.begin(), name.end(), content_type.begin(), [](char a, char b) {
             return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b + ('a' - 'A')) : b);
           });
  };
  if (is("text/event-stream"))
    return framer::form::sse;
  if (is("application/jsonlines") || is("application/x-ndjson") || is("application/jsonl"))
    return framer::form::lines;
  return framer::form::whole;
}

std::string begin_of(std::string_view text) {
  auto shown = std::string{text.substr(0, shown_of_body)};
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  return text.size() > shown_of_body ? shown + "..." : shown;
}

} // namespace

std::string dialect::body(const prompt& p) const {
  auto members = fields(p);
  for (const auto& [name, value] : settings_.extra) {
    // Objects such as "parameters" are merged, so that one more parameter does not replace them
    // all.
    auto* there = members.if_contains(name);
    if (there && there->is_object() && value.is_object())
      for (const auto& [inner, v] : value.get_object())
        there->get_object().insert_or_assign(inner, v);
    else
      members.insert_or_assign(name, value);
  }
  return boost::json::serialize(members);
}

caf::expected<dialect_ptr> make_dialect(std::string_view name, dialect_settings settings) {
  if (name == "openai-chat")
    return make_openai_chat(std::move(settings));
  if (name == "openai")
    return make_openai(std::move(settings));
  if (name == "lmi")
    return make_lmi(std::move(settings));
  if (name == "tgi")
    return make_tgi(std::move(settings));
  if (name == "task")
    return make_task(std::move(settings));
  return caf::make_error(ec::bad_option,
                         "--dialect " + std::string{name} +
                             " is none; allowed: openai-chat, openai, lmi, tgi, task");
}

std::string joined(const std::vector<chat_message>& messages) {
  std::string out;
  for (const auto& m : messages)
    out += (out.empty() ? "" : "\n") + m.content;
  return out;
}

std::string error_text(json_view body) {
  std::string out;
  scan_object(body, [&](od::raw_json_string key, od::value value) {
    if (key == "error" || (out.empty() && (key == "message" || key == "detail")))
      out = words_of(value);
  });
  return out.empty() ? begin_of(body.text) : begin_of(out);
}

void answer_reader::reset() {
  auto text = std::move(state_.text);
  text.clear();
  state_ = {};
  state_.text = std::move(text);
  verdict_ = outcome::ok;
  complaint_.clear();
}

void answer_reader::begin(uint16_t status, std::string_view content_type, bool wants_text) {
  auto form = status >= first_error_status ? framer::form::whole : form_of(content_type);
  status_ = status;
  whole_ = form == framer::form::whole;
  framer_.reset(form);
  reset();
  state_.wants_text = wants_text;
  if (status < first_error_status && whole_ == dialect_.streams())
    fail(outcome::malformed, whole_ ? "a stream was asked for, but the answer is of type \"" +
                                          begin_of(content_type) + "\"; see --no-stream"
                                    : "one document was asked for, but the answer is a stream");
}

uint32_t answer_reader::take(std::string_view bytes) {
  if (verdict_ != outcome::ok)
    return 0;
  state_.new_tokens = 0;
  if (!framer_.take(bytes, *this))
    fail(outcome::malformed, whole_ ? "the answer is longer than 64 MiB"
                                    : "the answer has an event or line longer than 4 MiB");
  return state_.new_tokens;
}

void answer_reader::finish() {
  if (verdict_ == outcome::ok)
    framer_.finish(*this);
  if (verdict_ == outcome::ok && !state_.complete)
    fail(outcome::connection_lost, "the stream ended without its last event");
}

void answer_reader::frame(json_view data) {
  if (verdict_ != outcome::ok)
    return;
  if (status_ >= first_error_status)
    return fail(status_ == 429 || status_ == 503 ? outcome::refused : outcome::http_error,
                std::to_string(status_) + " " + error_text(data));
  auto understood = whole_ ? dialect_.read_whole(data, state_) : dialect_.read_event(data, state_);
  if (framer_.error_event() && state_.error.empty())
    state_.error = error_text(data);
  if (!state_.error.empty())
    fail(whole_ ? outcome::http_error : outcome::stream_error, begin_of(state_.error));
  else if (!understood)
    fail(outcome::malformed,
         "not what " + std::string{dialect_.name()} + " promises: " + begin_of(data.text));
}

void answer_reader::fail(outcome o, std::string why) {
  verdict_ = o;
  complaint_ = std::move(why);
}

} // namespace troupe::load_test
