#include "troupe/models/loading/pickle.hpp"
#include "troupe/models/loading/pytorch_file.hpp"
#include "weight_file.hpp"

using namespace troupe;

/// The bytes as an archive, and as the pickle in one, which mutations of an archive seldom reach.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::memory_file file{data, size};
  test::check_tensors(models::read_pytorch(file.path()), size);
  auto value = models::read_pickle({reinterpret_cast<const std::byte*>(data), size});
  if (value ? value->root == nullptr : text_of(value.error()).empty())
    std::abort();
  return 0;
}
