#pragma once

#include <memory>
#include <vector>

#include "troupe/models/cpu/thread_pool.hpp"
#include "troupe/models/cuda/kernels/kernels.hpp"
#include "troupe/models/cuda/memory.hpp"

/// Weights in device memory, and how they get there.
namespace troupe::models::cuda {

element element_of(dtype type);

struct cuda_linear final : linear_weight {
  device_buffer rows;   ///< [n, k] in the compute type, or codes.
  device_buffer bias;   ///< fp32 [n]; empty: none.
  device_buffer scales; ///< Of codes.
  quantization kept_as = quantization::none;
  element type = element::bf16;
  uint32_t n = 0;
  uint32_t k = 0;
  bool gated = false;

  weight view() const {
    return {rows.data(), type, n, k, bias.as<const float>(), kept_as, scales.as<const float>()};
  }
};

struct cuda_table final : table_weight {
  device_buffer rows;                ///< [entries, columns] in the compute type; empty when tied.
  const cuda_linear* tied = nullptr; ///< Then its rows are these.
  element type = element::bf16;
  uint32_t entries = 0;
  uint32_t columns = 0;

  matrix view() const {
    return {tied != nullptr ? tied->rows.data() : rows.data(), type, entries, columns, columns};
  }
};

struct cuda_norm final : norm_weight {
  norm_function function = norm_function::rms;
  float epsilon = 0;
  device_buffer weight; ///< fp32
  device_buffer bias;   ///< fp32; empty: none.

  norm view() const {
    return {function, weight.as<const float>(), bias.as<const float>(), epsilon};
  }
};

/// Copies host memory, mapped files among it, to the device through a ring of pinned buffers: some
/// threads fill one while the device fetches another. What it needs is freed with it.
class uploader {
public:
  /// @param on Where everything is enqueued; conversions too.
  explicit uploader(const launcher& on);
  /// Waits until all is on the device.
  ~uploader();

  /// The source may change when this returns.
  void copy(const void* from, size_t bytes, void* to);
  /// Copies a matrix and converts it to `type`, [rows, columns] without gaps at `to`.
  void convert(const host_matrix& from, void* to, element type);
  /// Copies a matrix and quantizes it as output features from `first` on.
  void quantize(const host_matrix& from, const cuda_linear& into, size_t first);
  /// Errors: throws device_failure.
  void wait();

private:
  struct staging {
    pinned_buffer memory;
    event free; ///< The device has fetched the last content.
    bool used = false;
  };

  const launcher on_;
  cpu::thread_pool threads_;
  std::vector<std::unique_ptr<staging>> ring_;
  size_t next_ = 0;
  void* copy_raw(const host_matrix& from);

  device_buffer raw_;     ///< Values before their conversion.
  device_buffer largest_; ///< Of blocks that are quantized.
};

} // namespace troupe::models::cuda
