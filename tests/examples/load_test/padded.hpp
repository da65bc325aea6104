#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/examples/load_test/dialects/dialect.hpp"

namespace troupe::load_test::test {

/// Feeds `text` to `take` in pieces of `size` bytes, each in memory of its own that ends with the
/// padding, so that a sanitizer sees whoever reads further.
template <class F>
void in_pieces(std::string_view text, size_t size, F&& take) {
  while (!text.empty()) {
    auto piece = text.substr(0, size);
    std::vector<char> memory(piece.size() + json_padding, '#');
    std::copy(piece.begin(), piece.end(), memory.begin());
    take(std::string_view{memory.data(), piece.size()});
    text.remove_prefix(piece.size());
  }
}

} // namespace troupe::load_test::test
