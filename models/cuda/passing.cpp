#include "troupe/models/cuda/passing.hpp"

namespace troupe::models::cuda {

class passed_storage final : public models::activation::storage {
public:
  passed_storage(std::shared_ptr<passed_buffers> home,
                 std::unique_ptr<passed_buffers::buffer> buffer, size_t bytes)
      : home_(std::move(home)), buffer_(std::move(buffer)), bytes_(bytes) {}

  ~passed_storage() override {
    std::lock_guard guard{home_->mutex_};
    home_->free_.push_back(std::move(buffer_));
  }

  const std::byte* host_bytes() override {
    if (on_host_.empty()) {
      on_host_.resize(bytes_);
      check(cudaEventSynchronize(buffer_->ready.get()), "waiting for an activation");
      check(cudaMemcpy(on_host_.data(), buffer_->memory.data(), bytes_, cudaMemcpyDeviceToHost),
            "reading an activation");
    }
    return on_host_.data();
  }
  void* native() override { return buffer_->memory.data(); }

  void copy_to(void* to, int device, cudaStream_t on) {
    check(cudaStreamWaitEvent(on, buffer_->ready.get(), 0), "ordering an activation");
    check(cudaMemcpyPeerAsync(to, device, buffer_->memory.data(), home_->device_, bytes_, on),
          "copying an activation");
    buffer_->read = std::make_unique<event>();
    buffer_->read->record(on);
  }

private:
  std::shared_ptr<passed_buffers> home_;
  std::unique_ptr<passed_buffers::buffer> buffer_;
  size_t bytes_;
  std::vector<std::byte> on_host_;
};

models::activation passed_buffers::send(const void* from, size_t rows, size_t columns,
                                        cudaStream_t on) {
  std::unique_ptr<buffer> b;
  {
    std::lock_guard guard{mutex_};
    if (!free_.empty()) {
      b = std::move(free_.front());
      free_.erase(free_.begin()); // The one that has rested longest.
    }
  }
  if (b == nullptr) {
    b = std::make_unique<buffer>();
    b->memory = device_buffer{bytes_};
  }
  if (b->read != nullptr) {
    check(cudaStreamWaitEvent(on, b->read->get(), 0), "ordering an activation");
    b->read.reset();
  }
  const size_t bytes = rows * columns * sizeof(float);
  check(cudaMemcpyAsync(b->memory.data(), from, bytes, cudaMemcpyDeviceToDevice, on),
        "copying an activation");
  b->ready.record(on);
  return {dtype::fp32, static_cast<int64_t>(rows), static_cast<int64_t>(columns),
          std::make_shared<passed_storage>(shared_from_this(), std::move(b), bytes)};
}

void receive_activation(const models::activation& from, void* to, int device, cudaStream_t on) {
  if (auto* storage = dynamic_cast<passed_storage*>(from.data())) {
    storage->copy_to(to, device, on);
    return;
  }
  // Off the wire: pageable memory, so the call has read it when it returns.
  check(
      cudaMemcpyAsync(to, from.data()->host_bytes(), from.byte_size(), cudaMemcpyHostToDevice, on),
      "copying an activation");
}

} // namespace troupe::models::cuda
