#include "weight_file.hpp"

using namespace troupe;

/// No byte belongs to two tensors.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::memory_file file{data, size};
  if (test::check_tensors(models::read_safetensors(file.path()), size) > size)
    std::abort();
  return 0;
}
