#pragma once

#include <string>
#include <vector>

namespace troupe::load_test::report {

/// `x` filled up with spaces on its left or right to `width` columns; SGR sequences take none.
std::string padded_left(const std::string& x, size_t width);
std::string padded_right(const std::string& x, size_t width);

/// Rows of cells as lines: the first column to the left, the others to the right, save for the last
/// `left_at_end` ones. Lines are indented by two. Columns that do not fit `width` are left out,
/// from the right, so that no figure is cut; the first two always stay and are cut at last.
std::string aligned(const std::vector<std::vector<std::string>>& rows, size_t width,
                    size_t left_at_end = 0);

/// Words on lines of at most `width` columns, those after the first indented. Ends with a line
/// feed.
std::string wrapped(const std::string& text, size_t indent, size_t width);

} // namespace troupe::load_test::report
