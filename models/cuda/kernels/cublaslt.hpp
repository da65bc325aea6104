#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>
#include <library_types.h>

/// The few functions of cuBLASLt that we call, declared from its public documentation
/// (docs.nvidia.com/cuda/cublas, "Using the cuBLASLt API"), because its package is half a gigabyte
/// and is only needed where a GPU is. The names are NVIDIA's.
namespace troupe::models::cuda::lt {

using handle = struct cublasLtContext*;
using matmul_desc = struct cublasLtMatmulDescOpaque*;
using matrix_layout = struct cublasLtMatrixLayoutOpaque*;
using preference = struct cublasLtMatmulPreferenceOpaque*;

enum status : int { success = 0 };            // CUBLAS_STATUS_SUCCESS
enum compute_type : int { compute_32f = 68 }; // CUBLAS_COMPUTE_32F: no TF32
enum operation : int { none = 0, transpose = 1 };
enum desc_attribute : int { trans_a = 3, trans_b = 4 };
enum preference_attribute : int {
  max_workspace_bytes = 1,
  min_alignment_a = 5,
  min_alignment_b = 6,
  min_alignment_c = 7,
  min_alignment_d = 8
};

struct algorithm {
  uint64_t data[8];
};
struct heuristic_result {
  algorithm algo;
  size_t workspace;
  status state;
  float waves;
  int reserved[4];
};

/// Pointers to the library's functions, under their names without the prefix cublasLt.
struct functions {
  status (*create)(handle*) = nullptr;
  status (*destroy)(handle) = nullptr;
  status (*desc_create)(matmul_desc*, compute_type, cudaDataType_t) = nullptr;
  status (*desc_destroy)(matmul_desc) = nullptr;
  status (*desc_set)(matmul_desc, desc_attribute, const void*, size_t) = nullptr;
  status (*layout_create)(matrix_layout*, cudaDataType_t, uint64_t, uint64_t, int64_t) = nullptr;
  status (*layout_destroy)(matrix_layout) = nullptr;
  status (*preference_create)(preference*) = nullptr;
  status (*preference_destroy)(preference) = nullptr;
  status (*preference_set)(preference, preference_attribute, const void*, size_t) = nullptr;
  status (*heuristic)(handle, matmul_desc, matrix_layout, matrix_layout, matrix_layout,
                      matrix_layout, preference, int, heuristic_result*, int*) = nullptr;
  status (*matmul)(handle, matmul_desc, const void* alpha, const void* a, matrix_layout,
                   const void* b, matrix_layout, const void* beta, const void* c, matrix_layout,
                   void* d, matrix_layout, const algorithm*, void* workspace, size_t,
                   cudaStream_t) = nullptr;
};

} // namespace troupe::models::cuda::lt
