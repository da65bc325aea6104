#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Finds stop strings in a text that arrives in pieces, each byte looked at once: an automaton over
/// all strings together. Immutable, so that all choices of a request share one; what belongs to a
/// text is in its `cursor`. Source: Aho and Corasick, "Efficient string matching", CACM 18 (1975).
class stop_matcher {
public:
  /// A place in one text.
  struct cursor {
    uint32_t node = 0;
    size_t seen = 0; ///< Bytes so far.
  };

  /// [begin, end) in bytes from the start of the text.
  struct match {
    size_t begin = 0;
    size_t end = 0;
    friend bool operator==(const match&, const match&) = default;
  };

  /// Finds nothing.
  stop_matcher() : stop_matcher(std::vector<std::string>{}) {}

  /// Empty strings are ignored. Memory: 24 bytes per byte of `stops`.
  explicit stop_matcher(const std::vector<std::string>& stops);

  bool empty() const { return nodes_.size() == 1; }

  /// Reads on up to the first match, or to the end of `piece`. The match that ends first wins, of
  /// those the one that began first. After a match the cursor is of no more use.
  std::optional<match> advance(cursor& at, std::string_view piece) const;

  /// Bytes at the end of the text read so far that may turn out to begin a stop string.
  size_t held(const cursor& at) const { return nodes_[at.node].depth; }

private:
  struct node {
    uint32_t fail = 0;    ///< The longest proper suffix of this prefix that is a prefix too.
    uint32_t child = 0;   ///< First of its children, 0 = none.
    uint32_t sibling = 0; ///< Next child of its parent, 0 = none.
    uint32_t depth = 0;
    uint32_t match = 0; ///< Length of the longest stop string that ends here, 0 = none.
    char byte = 0;
  };

  uint32_t child_of(uint32_t parent, char byte) const;
  void insert(std::string_view stop);
  void link();

  std::vector<node> nodes_;
};

} // namespace troupe
