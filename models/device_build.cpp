// Compiled into the program and into the CUDA library.
#include "troupe/models/device_library.hpp"

namespace troupe::models {

const char* device_build() {
  return TROUPE_VERSION " " __VERSION__;
}

} // namespace troupe::models
