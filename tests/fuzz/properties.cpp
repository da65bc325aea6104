#include <algorithm>
#include <cstdlib>
#include <string>

#include "troupe/config/error.hpp"
#include "troupe/config/properties.hpp"

using namespace troupe;

/// Any text gives entries on lines that it has, or one error that names a line.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text{reinterpret_cast<const char*>(data), size};
  auto entries = config::parse_properties(text, "fuzzed.properties");
  if (!entries) {
    if (code_of(entries.error()) != ec::bad_option ||
        text_of(entries.error()).find("fuzzed.properties") == std::string::npos)
      std::abort();
    return 0;
  }
  auto lines = 1 + static_cast<size_t>(std::count_if(
                       text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }));
  for (const auto& entry : *entries)
    if (entry.line == 0 || entry.line > lines)
      std::abort();
  return 0;
}
