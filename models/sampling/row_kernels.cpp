#include "troupe/models/sampling/row_kernels.hpp"

#include <cstdlib>

namespace troupe::models::sampling {

std::vector<const row_kernels*> available_kernels() {
  std::vector<const row_kernels*> found{&plain_kernels};
#ifdef TROUPE_SAMPLING_X86
  if (__builtin_cpu_supports("avx2"))
    found.push_back(&avx2_kernels);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512_kernels);
#endif
  return found;
}

const row_kernels& kernels() {
  static const row_kernels& chosen = []() -> const row_kernels& {
    const auto found = available_kernels();
    // Unknown wishes are refused where the matrix kernels are chosen; here the best is right.
    const char* wish = std::getenv("TROUPE_CPU_ISA");
    for (const auto* table : found)
      if (wish != nullptr && table->name == wish)
        return *table;
    return *found.back();
  }();
  return chosen;
}

} // namespace troupe::models::sampling
