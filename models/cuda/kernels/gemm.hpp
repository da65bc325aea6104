#pragma once

#include <memory>
#include <string>

#include "troupe/models/cuda/kernels/kernels.hpp"

/// Products of activations and weights: y = x W^T. Small batches go to a kernel of ours that
/// streams the weights at memory speed, the rest to cuBLASLt, which is opened at run time.
namespace troupe::models::cuda {

/// One product. T = x.rows.
struct linear_call {
  /// [T, k] in the compute type. With `before`: hidden, fp32, which is normalised first.
  matrix x;
  const norm* before = nullptr;
  weight by;
  /// none: y is what the product gives. Otherwise y = f(product + bias).
  activation function = activation::none;
  /// `by` holds n / 2 gates and then what they gate: y = f(gate) * up, [T, n / 2].
  bool gated = false;
  bool accumulate = false; ///< y += product; y is fp32 then. Not with an activation.
  matrix y;                ///< Compute type or fp32.
  /// Scratch for paths that need more than one kernel; may be null where `linear_scratch_bytes`
  /// says 0.
  void* scratch = nullptr;
};

/// Bytes of scratch that a call needs, for the largest T it will be asked with.
size_t linear_scratch_bytes(const linear_call& call);

/// cuBLASLt on one device: the open library, its handle, its workspace, and the algorithm that was
/// chosen for each shape. One thread at a time. A shape that is new costs a search: call `prepare`
/// before capturing a graph.
class gemm_library {
public:
  virtual ~gemm_library() = default;

  /// y (+)= x W^T, nothing else. @param accumulate y is also read.
  virtual cudaError_t multiply(const launcher& on, const matrix& x, const weight& by,
                               bool accumulate, const matrix& y) = 0;

  /// Chooses the algorithm for a shape by running the candidates on the given matrices, whose
  /// content in y is lost. Waits for the device. Later calls of this shape use the choice.
  virtual cudaError_t prepare(const launcher& on, const matrix& x, const weight& by,
                              bool accumulate, const matrix& y) = 0;
};

/// Opens libcublasLt.so.13 (TROUPE_CUBLASLT names another file). The current device is the one it
/// works on. @param workspace Device memory, aligned to 256 bytes; 32 MiB serve well on Hopper.
/// @param problem Why there is none, when the result is null.
std::unique_ptr<gemm_library> open_gemm_library(void* workspace, size_t workspace_bytes,
                                                std::string& problem);

/// Largest T that `linear` gives to our own kernel for a weight of this shape.
uint32_t small_batch_limit(const device_traits& device, element type, uint32_t n, uint32_t k);

/// Runs a call: the norm, then one kernel where T is small, else cuBLASLt, bias and activation one
/// after the other. @param library Null: our own kernels serve every size (slowly for large T).
/// With `by.type` fp32 no TF32 is used.
cudaError_t linear(const launcher& on, const linear_call& call, gemm_library* library);

} // namespace troupe::models::cuda
