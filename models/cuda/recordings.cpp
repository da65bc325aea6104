#include "troupe/models/cuda/recordings.hpp"

#include <algorithm>

namespace troupe::models::cuda {

bool recordings::replay(const pass_key& key, cudaStream_t on) {
  auto& e = entries_[key];
  if (e.graph != nullptr) {
    check(cudaGraphLaunch(e.graph, on), "replaying a step");
    return true;
  }
  if (e.seen && !e.refused) {
    // Thread-local: other stages of this process go on with their own work meanwhile.
    check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "recording a step");
    current_ = &e;
  }
  e.seen = true;
  return false;
}

void recordings::finish(cudaStream_t on) {
  if (current_ == nullptr)
    return;
  auto* e = current_;
  current_ = nullptr;
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(on, &graph), "recording a step");
  const auto made = cudaGraphInstantiate(&e->graph, graph, 0);
  cudaGraphDestroy(graph);
  if (made != cudaSuccess) {
    e->graph = nullptr;
    e->refused = true;
    check(made, "recording a step");
  }
  check(cudaGraphLaunch(e->graph, on), "replaying a step");
}

void recordings::abandon(cudaStream_t on) noexcept {
  if (current_ == nullptr)
    return;
  current_->refused = true;
  current_ = nullptr;
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(on, &graph) == cudaSuccess && graph != nullptr)
    cudaGraphDestroy(graph);
  cudaGetLastError();
}

bool recordings::seen(const pass_key& key) const {
  const auto found = entries_.find(key);
  return found != entries_.end() && found->second.seen;
}

bool recordings::settled(const pass_key& key) const {
  const auto found = entries_.find(key);
  return found != entries_.end() && (found->second.graph != nullptr || found->second.refused);
}

size_t recordings::count() const {
  return static_cast<size_t>(std::count_if(
      entries_.begin(), entries_.end(), [](const auto& e) { return e.second.graph != nullptr; }));
}

void recordings::clear() noexcept {
  for (auto& [key, e] : entries_)
    if (e.graph != nullptr)
      cudaGraphExecDestroy(e.graph);
  entries_.clear();
  current_ = nullptr;
}

} // namespace troupe::models::cuda
