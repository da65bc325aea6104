#pragma once

#include <string>
#include <string_view>

namespace troupe::load_test::report {

/// A whole page around `body`: style for light and dark, narrow and wide, a script of a few lines
/// that shows the figures under the pointer, and a policy that forbids to fetch anything.
std::string html_page(std::string_view title, const std::string& body);

} // namespace troupe::load_test::report
