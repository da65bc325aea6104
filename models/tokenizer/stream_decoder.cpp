#include "troupe/models/tokenizer/stream_decoder.hpp"

#include <utility>

#include "troupe/models/tokenizer/utf8.hpp"

namespace troupe {

namespace {

/// Tokens that a general decoder may hold back. More than any character needs; without a limit a
/// run of tokens that decode to nothing would cost quadratic time.
constexpr size_t max_held_tokens = 64;

} // namespace

stream_decoder::stream_decoder(tokenizer_ptr tok, bool skip_special)
    : tok_(std::move(tok)), skip_special_(skip_special) {}

std::string_view stream_decoder::push(int32_t id) {
  piece_.clear();
  if (!tok_->has_token(id) || (skip_special_ && tok_->is_special(id)))
    return {};
  switch (tok_->decodes_by()) {
  case tokenizer::decoding::byte_level:
    push_bytes(tok_->token_bytes(id));
    break;
  case tokenizer::decoding::byte_fallback:
    if (tok_->is_byte_token(id)) {
      push_byte_token(tok_->token_bytes(id)[0]);
    } else {
      end_byte_run();
      piece_.append(tok_->token_bytes(id));
    }
    drop_first_space();
    break;
  case tokenizer::decoding::general:
    push_general(id);
    break;
  }
  return piece_;
}

std::string_view stream_decoder::finish() {
  piece_.clear();
  if (tok_->decodes_by() == tokenizer::decoding::byte_fallback) {
    end_byte_run();
    drop_first_space();
  } else if (tok_->decodes_by() == tokenizer::decoding::byte_level) {
    utf8::append_valid(piece_, pending_);
  } else if (window_.size() > read_) {
    if (auto text = tok_->decode(window_, skip_special_); text && text->size() > shown_.size())
      piece_ = text->substr(shown_.size());
  }
  pending_.clear();
  window_.clear();
  shown_.clear();
  read_ = 0;
  at_start_ = true;
  run_broken_ = false;
  return piece_;
}

void stream_decoder::push_bytes(std::string_view bytes) {
  if (pending_.empty()) {
    auto held = utf8::append_complete(piece_, bytes);
    pending_.assign(bytes.substr(bytes.size() - held));
  } else {
    pending_.append(bytes);
    auto held = utf8::append_complete(piece_, pending_);
    pending_.erase(0, pending_.size() - held);
  }
}

/// A run of byte tokens is text as a whole or U+FFFD for each byte: once it is broken, every later
/// byte is replaced too.
void stream_decoder::push_byte_token(char byte) {
  pending_.push_back(byte);
  if (!run_broken_) {
    auto f = utf8::look(pending_);
    if (f.kind == utf8::start::incomplete)
      return;
    if (f.kind == utf8::start::whole) {
      piece_.append(pending_);
      pending_.clear();
      return;
    }
    run_broken_ = true;
  }
  for (size_t i = 0; i < pending_.size(); ++i)
    piece_.append(utf8::replacement);
  pending_.clear();
}

void stream_decoder::end_byte_run() {
  for (size_t i = 0; i < pending_.size(); ++i)
    piece_.append(utf8::replacement);
  pending_.clear();
  run_broken_ = false;
}

void stream_decoder::drop_first_space() {
  if (!at_start_ || piece_.empty())
    return;
  at_start_ = false;
  if (tok_->strips_first_space() && piece_.front() == ' ')
    piece_.erase(0, 1);
}

void stream_decoder::push_general(int32_t id) {
  window_.push_back(id);
  auto text = tok_->decode(window_, skip_special_);
  if (!text)
    return;
  bool longer = text->size() > shown_.size() && text->starts_with(shown_);
  bool complete = longer && !text->ends_with(utf8::replacement);
  bool full = window_.size() - read_ > max_held_tokens;
  if (!complete && !full)
    return;
  if (longer)
    piece_ = text->substr(shown_.size());
  advance_window();
}

void stream_decoder::advance_window() {
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(read_));
  read_ = window_.size();
  auto text = tok_->decode(window_, skip_special_);
  shown_ = text ? std::move(*text) : std::string{};
}

} // namespace troupe
