#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "troupe/models/cuda/kernels/gemm.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"

/// What the kernels' benchmarks share: memory, shapes of models, timing in CUDA graphs.
namespace troupe::bench {

using namespace troupe::models::cuda;

inline void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess)
    return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
  std::exit(2);
}
#define TROUPE_MUST(call) ::troupe::bench::must((call), #call)

class device_memory {
public:
  explicit device_memory(size_t bytes, bool zero = false) : bytes_(bytes) {
    TROUPE_MUST(cudaMalloc(&data_, std::max<size_t>(bytes, 256)));
    if (zero)
      TROUPE_MUST(cudaMemset(data_, 0, std::max<size_t>(bytes, 256)));
  }
  ~device_memory() { cudaFree(data_); }
  device_memory(const device_memory&) = delete;
  device_memory& operator=(const device_memory&) = delete;
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void* at(size_t offset) const { return static_cast<unsigned char*>(data_) + offset; }
  size_t size() const { return bytes_; }

private:
  void* data_ = nullptr;
  size_t bytes_;
};

template <class T>
std::unique_ptr<device_memory> uploaded(const std::vector<T>& values) {
  auto m = std::make_unique<device_memory>(values.size() * sizeof(T));
  TROUPE_MUST(
      cudaMemcpy(m->data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return m;
}

/// A decoder's shapes.
struct model {
  const char* name;
  uint32_t layers, hidden, heads, kv_heads, head_size, intermediate, vocabulary;
  uint32_t qkv() const { return (heads + 2 * kv_heads) * head_size; }
  size_t layer_weights() const {
    return size_t{hidden} * (qkv() + heads * head_size + 3 * size_t{intermediate});
  }
  size_t weights() const { return layers * layer_weights() + size_t{hidden} * vocabulary; }
};

inline constexpr model models[] = {{"8B", 32, 4096, 32, 8, 128, 14336, 128256},
                                   {"1B", 16, 2048, 32, 8, 64, 8192, 128256},
                                   {"135M", 30, 576, 9, 3, 64, 1536, 49152}};

/// What everything runs on.
struct place {
  launcher on;
  std::unique_ptr<gemm_library> library; ///< Null where there is no cuBLASLt.
  std::unique_ptr<device_memory> library_workspace;
  double bandwidth = 0; ///< Bytes a second of a copy, read and written bytes counted.
  size_t l2_bytes = 0;
};

/// Median seconds of a replay of what `enqueue` captures.
double replay_seconds(const place& p, const std::function<void()>& enqueue, int replays = 7);

/// Median seconds of one `enqueue(set)`, over so many sets of buffers that the L2 holds none of
/// them; all in one graph.
double each_seconds(const place& p, int sets, const std::function<void(int)>& enqueue);

/// Sets of `bytes` that the L2 cannot hold.
inline int sets_for(const place& p, size_t bytes) {
  return static_cast<int>(
      std::clamp<size_t>(4 * p.l2_bytes / std::max<size_t>(bytes, 1) + 1, 2, 256));
}

/// One-token rows (or, with `tokens`, prompts) over pages with random content.
class paged_rows {
public:
  paged_rows(const model& m, uint32_t rows, uint32_t context, uint32_t tokens = 1,
             uint32_t block_tokens = 16);
  step_arrays step;
  uint32_t blocks = 0;
  kv_pages pages(const model& m, void* base, uint32_t layers, uint32_t layer) const;
  size_t page_bytes(const model& m, uint32_t layers) const;
  const query_tile* tiles(const model& m, uint32_t& count) const;

private:
  uint32_t rows_, tokens_, block_tokens_;
  std::vector<std::unique_ptr<device_memory>> arrays_;
  mutable std::unique_ptr<device_memory> tiles_;
};

/// Kernels that do nothing but read, or copy: what the memory can give.
void enqueue_read(const place& p, const void* from, size_t bytes, void* sink);
void enqueue_copy(const place& p, const void* from, size_t bytes, void* to);

void bench_products(const place& p);
void bench_attention(const place& p);
void bench_rows(const place& p);
void bench_decode_steps(const place& p);
void bench_prefill_step(const place& p);

} // namespace troupe::bench
