#pragma once

#include <string>

namespace CLI {
class App;
}

namespace troupe::runtime {

/// The manual page troupe(1) in roff: the program's commands as `app` knows them, and the options
/// of the table.
std::string man_page(const CLI::App& app);

} // namespace troupe::runtime
