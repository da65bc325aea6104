#include <cstdlib>
#include <string_view>

#include "troupe/config/model_request.hpp"

using namespace troupe::config;

/// A list of models: whatever is read has a URL and a name that fits a route.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto list = parse_load_models({reinterpret_cast<const char*>(data), size});
  if (!list)
    return 0;
  for (const auto& request : *list) {
    auto name = inferred_name(request.url);
    bool good = !request.url.empty() && !name.empty();
    for (char c : name)
      good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_');
    if (!good)
      std::abort();
  }
  return 0;
}
