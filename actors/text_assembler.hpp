#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "troupe/actors/stop_matcher.hpp"

namespace troupe {

/// How the pieces of a generated text are shown.
struct text_rules {
  stop_matcher stops;
  bool include_stop = false; ///< Keep the matched stop string in the text.
  /// true: show only what can no longer belong to a stop string, and cut at the match (streams).
  /// false: show every piece whole; only `text()` is cut.
  bool hold_back = false;
};

/// Puts together the text of one choice from the pieces its tokens decode to, and ends it at a stop
/// string (contract generation.md §3).
class text_assembler {
public:
  explicit text_assembler(std::shared_ptr<const text_rules> rules) : rules_(std::move(rules)) {}

  /// Takes the next piece and appends to `shown` what is to be seen of it now. Nothing may follow
  /// once a stop string was found.
  void add(std::string_view piece, std::string& shown);

  /// The last piece (held-back bytes of the decoder, may be empty): releases everything.
  void close(std::string_view piece, std::string& shown);

  /// A stop string was found, the text is cut.
  bool stopped() const { return stopped_; }

  /// All text so far, cut at the stop string.
  const std::string& text() const { return text_; }
  std::string take_text() { return std::move(text_); }

private:
  void append(std::string_view piece);
  void show(size_t end, std::string& shown);

  std::shared_ptr<const text_rules> rules_;
  stop_matcher::cursor cursor_;
  std::string text_;
  size_t shown_ = 0; ///< Bytes of `text_` that were shown, when holding back.
  bool stopped_ = false;
};

} // namespace troupe
