#pragma once

#include <string>

#include "troupe/config/options.hpp"

namespace troupe::config {

/// Lines for `troupe serve --help`: what it does, what it accepts and its default, its key and
/// variable.
std::string help_text(const option& o);

/// `troupe options`: every option with its value and where that came from, as aligned text.
std::string options_table(const settings& values);

/// `troupe options --markdown`: the whole of docs/options.md, which a test compares with it.
std::string options_markdown();

} // namespace troupe::config
