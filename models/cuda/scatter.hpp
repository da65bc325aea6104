#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

namespace troupe::models::cuda {

/// One 32-bit word that changes.
struct scatter_word {
  uint32_t place = 0; ///< Words from the base.
  uint32_t value = 0;
};

/// base[place] = value for each of `words`, [count] in device memory. Of several for one place the
/// outcome is any of them.
cudaError_t scatter(cudaStream_t on, uint32_t* base, const scatter_word* words, uint32_t count);

} // namespace troupe::models::cuda
