#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace troupe {

class watched_text;
using watched_text_ptr = std::shared_ptr<const watched_text>;

/// An answer's text, as far as it may end the answer. Immutable: a search has one for each lane, of
/// which several may go on from one.
class watched_text {
public:
  virtual ~watched_text() = default;
  /// The text with one more token.
  virtual watched_text_ptr after(int32_t token) const = 0;
  /// A stop string is complete in it.
  virtual bool stopped() const = 0;
};

/// What the request of a search lets it know while it runs. The two share it, so it never leaves
/// their process.
struct search_watch {
  watched_text_ptr text;               ///< Of the empty answer; null: there are no stop strings.
  std::atomic<bool> time_is_up{false}; ///< The round that is running is the last.
};

/// How a new sequence carries it.
struct search_watch_ref {
  std::shared_ptr<const search_watch> shared; ///< Null: nobody watches.
};

} // namespace troupe
