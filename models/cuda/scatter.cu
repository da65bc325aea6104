#include "troupe/models/cuda/scatter.hpp"

namespace troupe::models::cuda {

namespace {

__global__ void scatter_kernel(uint32_t* base, const scatter_word* words, uint32_t count) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count)
    base[words[i].place] = words[i].value;
}

} // namespace

cudaError_t scatter(cudaStream_t on, uint32_t* base, const scatter_word* words, uint32_t count) {
  if (count > 0)
    scatter_kernel<<<(count + 255) / 256, 256, 0, on>>>(base, words, count);
  return cudaGetLastError();
}

} // namespace troupe::models::cuda
