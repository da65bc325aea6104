#pragma once

#include <string>

namespace CLI {
class App;
}

namespace troupe::runtime {

/// A script that completes commands, flags, and the words that a flag's value may be.
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);

} // namespace troupe::runtime
