#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/models/tokenizer/tokenizer.hpp"

namespace troupe {

/// Turns generated tokens into text while they arrive. Every token yields one piece, which is empty
/// while a character is incomplete; the pieces together equal the decode of all tokens.
///
/// Exception: where a byte-fallback run turns out not to be UTF-8, `decode` replaces all bytes of
/// the run, also those that were a whole character and have been given out; here only what follows
/// is replaced.
///
/// One per sequence; one thread at a time. Feed it generated tokens only, never the prompt's.
/// Source of the windows for general decoders: text-generation-inference, decode_token.
class stream_decoder {
public:
  explicit stream_decoder(tokenizer_ptr tok, bool skip_special = true);

  /// The text that `id` completes. The view is valid until the next call. Ids without a token yield
  /// an empty piece.
  std::string_view push(int32_t id);

  /// What was held back, U+FFFD in place of what never completed. Afterwards the decoder is as new.
  std::string_view finish();

  /// 0 when all text is out, else how much is held back (bytes, or tokens of a general decoder).
  size_t held() const { return pending_.size() + window_.size() - read_; }

private:
  void push_bytes(std::string_view bytes);
  void push_byte_token(char byte);
  void end_byte_run();
  void push_general(int32_t id);
  void advance_window();
  void drop_first_space();

  tokenizer_ptr tok_;
  bool skip_special_;
  bool at_start_ = true;        ///< Nothing was given out: a leading space may have to go.
  bool run_broken_ = false;     ///< The present run of byte tokens is not UTF-8.
  std::string piece_;           ///< What the last call returned.
  std::string pending_;         ///< Bytes of an incomplete character.
  std::vector<int32_t> window_; ///< general: the last tokens given out, then those held back.
  size_t read_ = 0;             ///< general: how many of window_ are given out.
  std::string shown_;           ///< general: what those first read_ tokens decode to by themselves.
};

} // namespace troupe
