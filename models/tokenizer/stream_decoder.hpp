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
/// the run, also those that were a whole character and have been given out; here only the rest of
/// the run is replaced.
///
/// One per sequence; one thread at a time. Never starts with prompt text: prime it with nothing.
/// Source of the windows for general decoders: text-generation-inference, `decode_token`.
class stream_decoder {
public:
  explicit stream_decoder(tokenizer_ptr tok, bool skip_special = true);

  /// The text that `id` completes. The view is valid until the next call. Ids without a token yield
  /// an empty piece.
  std::string_view push(int32_t id);

  /// What was held back, U+FFFD in place of what never completed. Afterwards the decoder is as new.
  std::string_view finish();

  /// Bytes held back at the moment; 0 means that all text is out.
  size_t held() const;

private:
  std::string_view push_bytes(std::string_view bytes);
  std::string_view push_byte_fallback(int32_t id);
  std::string_view push_general(int32_t id);
  void append_text(std::string_view bytes);

  tokenizer_ptr tok_;
  bool skip_special_;
  bool at_start_ = true;      ///< Nothing was given out: a leading space may have to go.
  std::string piece_;         ///< What the last call returned.
  std::string pending_;       ///< Bytes of an incomplete character.
  std::vector<int32_t> window_; ///< general: tokens from the prefix offset on.
  size_t read_ = 0;           ///< general: how many of window_ are given out.
  size_t window_text_ = 0;    ///< general: bytes of text that those first read_ tokens decode to.
};

} // namespace troupe
