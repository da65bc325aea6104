#include <cstdlib>
#include <string_view>

#include "troupe/config/options.hpp"
#include "troupe/config/properties.hpp"

using namespace troupe::config;

/// A properties file, and each of its values as the value of its option: a good value must be good
/// again in the spelling that we give it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto entries = parse_properties({reinterpret_cast<const char*>(data), size}, "file");
  if (!entries)
    return 0;
  for (const auto& entry : *entries) {
    nearest_key(entry.key);
    const auto* o = find_option(entry.key);
    if (o == nullptr)
      continue;
    auto value = parse_value(*o, entry.text);
    if (!value)
      continue;
    auto again = parse_value(*o, to_text(*o, value->result));
    if (!again || again->result != value->result)
      std::abort();
  }
  return 0;
}
