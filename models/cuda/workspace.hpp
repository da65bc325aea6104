#pragma once

#include <array>
#include <map>

#include "troupe/models/backend.hpp"
#include "troupe/models/cuda/kernels/gemm.hpp"
#include "troupe/models/cuda/kernels/kernels.hpp"
#include "troupe/models/cuda/memory.hpp"
#include "troupe/models/device_library.hpp"

/// Memory that steps work in, and how much of it there is: what the plan reckons with is computed
/// by the same functions that allocate.
namespace troupe::models::cuda {

/// Most rows and tokens, filled up.
struct step_limits {
  uint32_t tokens = 0;
  uint32_t rows = 0;        ///< Rows of any step.
  uint32_t logits_rows = 0; ///< Rows of logits at once.
};
step_limits limits_of(const device_stage_shape& shape);

/// Bytes of everything that a backend allocates beside weights and pages.
uint64_t working_bytes(const device_backend_options& options, const device_traits& device);

/// The scratch matrices, at addresses that never change, and workspaces of kernels.
class workspace {
public:
  workspace(const device_backend_options& options, const device_traits& device);

  /// Errors: throws device_failure (ec::step_fault): larger than the limits allow.
  void* scratch_at(scratch which, size_t rows, size_t columns) const;
  size_t scratch_stride(scratch which, size_t columns) const;
  element type_of(scratch which) const;

  void* linear_scratch() const { return linear_.data(); }
  /// Zeroed when it is new. Not while a step is being recorded, unless it is there already.
  void* decode_workspace(uint32_t rows, decode_split split);
  void* sample_workspace(uint32_t positions);
  void* gemm_workspace() const { return gemm_.data(); }
  static constexpr size_t gemm_workspace_bytes = 32 << 20;

  decode_split split_for(uint32_t rows, uint32_t context) const;
  const step_limits& limits() const { return limits_; }

private:
  device_backend_options options_;
  device_traits device_;
  step_limits limits_;
  std::array<device_buffer, static_cast<size_t>(scratch::count)> scratch_;
  device_buffer linear_;
  device_buffer gemm_;
  std::map<std::array<uint32_t, 3>, device_buffer> decode_; ///< By rows and split.
  std::map<uint32_t, device_buffer> sample_;
};

} // namespace troupe::models::cuda
