#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe::load_test {

/// Bytes that must be readable behind everything that is handed to a JSON parser.
inline constexpr size_t json_padding = 64;

/// JSON text with `json_padding` readable bytes behind it.
struct json_view {
  std::string_view text;
};

/// Receives the pieces of a framed body.
class frame_receiver {
public:
  /// One event's data, or one line. Valid during the call.
  virtual void frame(json_view data) = 0;

protected:
  ~frame_receiver() = default;
};

/// Cuts a body into events or lines as its bytes arrive, in pieces of any size. Copies only what a
/// piece leaves unfinished. Every byte may be hostile: what does not end within `longest_frame`
/// bytes is refused.
class framer {
public:
  enum class form : char {
    whole, ///< One document.
    lines, ///< One document a line; empty lines are skipped.
    sse,   ///< Server-sent events: the `data` lines, joined by newlines.
  };

  static constexpr size_t longest_frame = size_t{4} << 20;
  static constexpr size_t longest_whole = size_t{64} << 20;

  void reset(form f);

  /// @param bytes With `json_padding` readable bytes behind them.
  /// @returns False once something is longer than allowed.
  bool take(std::string_view bytes, frame_receiver& to);

  /// The body is over: whatever is left is a frame, unless it is an event without its blank line.
  void finish(frame_receiver& to);

  /// Name in the last `event:` line, as servers use it to announce an error.
  bool error_event() const { return error_event_; }

private:
  bool line(std::string_view text, bool in_piece, frame_receiver& to);
  void dispatch(frame_receiver& to);
  bool keep(std::string_view bytes, size_t limit);

  form form_ = form::whole;
  std::string carry_;          ///< A line that has not ended, or the whole document.
  std::string data_;           ///< Data of an event that has not ended.
  std::string_view data_view_; ///< The same while it lies in the piece at hand.
  bool has_data_ = false;
  bool error_event_ = false;
};

} // namespace troupe::load_test
