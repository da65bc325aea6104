#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "stream.hpp"

namespace {

using work = std::function<void()>;

struct emulated_stream {
  std::deque<work> queue;
  std::vector<work>* recorded = nullptr;
};

struct emulated_event {
  emulated_stream* stream = nullptr;
  std::chrono::steady_clock::time_point when;
};

struct emulated_graph {
  std::vector<work> nodes;
};

/// One lock for everything: correctness is all that this is for.
std::recursive_mutex mutex;
thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
constexpr int most_devices = 16;
size_t allocated[most_devices] = {};
/// Once set, every call for that device fails until it is reset, as after an illegal access.
cudaError_t sticky_errors[most_devices] = {};

cudaError_t& sticky() {
  return sticky_errors[current_device];
}

emulated_stream& of(cudaStream_t s) {
  static emulated_stream legacy;
  return s == nullptr ? legacy : *reinterpret_cast<emulated_stream*>(s);
}

/// TROUPE_EMULATED_FAULT_AT: the n-th piece of work after which the device is lost, once; with
/// TROUPE_EMULATED_FAULT_DEVICE of that device alone.
void maybe_fail() {
  static size_t done = 0;
  static const char* text = std::getenv("TROUPE_EMULATED_FAULT_AT");
  static const char* device = std::getenv("TROUPE_EMULATED_FAULT_DEVICE");
  if (text == nullptr || (device != nullptr && std::atoi(device) != current_device))
    return;
  if (++done == std::strtoull(text, nullptr, 10))
    sticky() = cudaErrorIllegalAddress;
}

cudaError_t answer(cudaError_t error) {
  if (sticky() != cudaSuccess)
    error = sticky();
  if (error != cudaSuccess)
    last_error = error;
  return error;
}

int device_count() {
  const char* text = std::getenv("TROUPE_EMULATED_GPUS");
  return std::min(text != nullptr ? std::atoi(text) : 2, most_devices);
}

size_t device_bytes() {
  const char* text = std::getenv("TROUPE_EMULATED_GPU_BYTES");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : size_t{1} << 30;
}

void run_one(emulated_stream& s) {
  auto next = std::move(s.queue.front());
  s.queue.pop_front();
  next();
}

void run_all(emulated_stream& s) {
  while (!s.queue.empty())
    run_one(s);
}

std::set<emulated_stream*>& all_streams() {
  static std::set<emulated_stream*> streams;
  return streams;
}

} // namespace

namespace troupe::test::emulation {

void enqueue(cudaStream_t stream, std::function<void()> w) {
  std::lock_guard guard{mutex};
  auto& s = of(stream);
  if (s.recorded != nullptr) {
    s.recorded->push_back(std::move(w));
    return;
  }
  maybe_fail();
  s.queue.push_back(std::move(w));
}

} // namespace troupe::test::emulation

using troupe::test::emulation::enqueue;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return answer(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  *p = {};
  std::snprintf(p->name, sizeof(p->name), "Emulated GPU");
  p->totalGlobalMem = device_bytes();
  p->major = 9;
  p->multiProcessorCount = 4;
  return answer(device < device_count() ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count())
    return answer(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard guard{mutex};
  *total = device_bytes();
  *free = *total - std::min(*total, allocated[current_device]);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int, unsigned int) {
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "emulated error";
}

cudaError_t cudaGetLastError() {
  if (sticky() != cudaSuccess)
    return sticky();
  return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  std::lock_guard guard{mutex};
  if (allocated[current_device] + bytes > device_bytes())
    return answer(cudaErrorMemoryAllocation);
  // Size and device stand before the memory, which is aligned as the real one is.
  const size_t size = (bytes + 256 + 255) / 256 * 256;
  auto* block = static_cast<char*>(std::aligned_alloc(256, size));
  std::memcpy(block, &bytes, sizeof(bytes));
  std::memcpy(block + sizeof(bytes), &current_device, sizeof(current_device));
  *data = block + 256;
  std::memset(*data, 0xff, bytes); // NaN in every floating-point type
  allocated[current_device] += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr)
    return cudaSuccess;
  cudaDeviceSynchronize(); // As the real one.
  std::lock_guard guard{mutex};
  auto* block = static_cast<char*>(data) - 256;
  size_t bytes = 0;
  int device = 0;
  std::memcpy(&bytes, block, sizeof(bytes));
  std::memcpy(&device, block + sizeof(bytes), sizeof(device));
  allocated[device] -= bytes;
  std::free(block);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned int) {
  *data = std::malloc(bytes);
  return answer(*data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* data) {
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return answer(cudaSuccess);
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes,
                                cudaStream_t stream) {
  enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return answer(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  cudaStreamSynchronize(nullptr);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  enqueue(nullptr, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  std::lock_guard guard{mutex};
  auto* s = new emulated_stream;
  all_streams().insert(s);
  *stream = reinterpret_cast<cudaStream_t>(s);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard guard{mutex};
  auto& s = of(stream);
  run_all(s);
  all_streams().erase(&s);
  delete &s;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::lock_guard guard{mutex};
  if (of(stream).recorded != nullptr)
    return answer(cudaErrorStreamCaptureUnsupported);
  run_all(of(stream));
  return answer(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize() {
  std::lock_guard guard{mutex};
  run_all(of(nullptr));
  for (auto* s : all_streams())
    run_all(*s);
  return answer(cudaSuccess);
}

cudaError_t cudaDeviceReset() {
  // After an illegal access the real driver gives the process no device any more.
  if (std::getenv("TROUPE_EMULATED_FAULT_STAYS") == nullptr)
    sticky() = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = reinterpret_cast<cudaEvent_t>(new emulated_event);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<emulated_event*>(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  std::lock_guard guard{mutex};
  auto* e = reinterpret_cast<emulated_event*>(event);
  e->stream = &of(stream);
  e->when = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const auto span =
      reinterpret_cast<emulated_event*>(to)->when - reinterpret_cast<emulated_event*>(from)->when;
  *milliseconds = std::chrono::duration<float, std::milli>(span).count();
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::lock_guard guard{mutex};
  // All of the stream, which is more than asked for, and right.
  if (auto* s = reinterpret_cast<emulated_event*>(event)->stream;
      s != nullptr && all_streams().count(s) > 0)
    run_all(*s);
  return answer(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned int) {
  return cudaEventSynchronize(event);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  std::lock_guard guard{mutex};
  of(stream).recorded = new std::vector<work>;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard guard{mutex};
  auto& s = of(stream);
  auto* g = new emulated_graph{std::move(*s.recorded)};
  delete std::exchange(s.recorded, nullptr);
  *graph = reinterpret_cast<cudaGraph_t>(g);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = reinterpret_cast<cudaGraphExec_t>(
      new emulated_graph{*reinterpret_cast<emulated_graph*>(graph)});
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<emulated_graph*>(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<emulated_graph*>(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  for (const auto& node : reinterpret_cast<emulated_graph*>(graph)->nodes)
    enqueue(stream, node);
  return answer(cudaSuccess);
}

} // extern "C"
