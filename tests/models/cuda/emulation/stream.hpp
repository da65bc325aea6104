#pragma once

#include <functional>

#include <cuda_runtime_api.h>

/// A stand-in for GPUs on machines without one: the CUDA runtime's functions that the backend
/// calls, and the kernels, as plain code over host memory. Work is kept back until somebody waits
/// for it, so that a buffer that is used again too early, or an argument that lives too short,
/// shows; fresh device memory holds NaN. A recorded graph repeats its work with the recorded
/// arguments.
namespace troupe::test::emulation {

/// Puts work at the end of a stream, or into the graph that the stream is being recorded to.
void enqueue(cudaStream_t stream, std::function<void()> work);

} // namespace troupe::test::emulation
