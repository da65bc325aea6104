#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "troupe/models/activation.hpp"
#include "troupe/models/cuda/memory.hpp"

/// Activations from one GPU to the next, ordered by events: neither host copy nor wait.
namespace troupe::models::cuda {

/// Buffers of one stage that travel to the next one and come back when their last reader lets go,
/// on whatever thread that happens.
class passed_buffers : public std::enable_shared_from_this<passed_buffers> {
public:
  /// @param device The current one. @param bytes Of each buffer.
  passed_buffers(int device, size_t bytes) : device_(device), bytes_(bytes) {}

  /// Copies rows, [rows, columns] fp32 without gaps, behind what `on` does now.
  /// Errors: throws device_failure.
  models::activation send(const void* from, size_t rows, size_t columns, cudaStream_t on);

private:
  friend class passed_storage;
  struct buffer {
    device_buffer memory;
    event ready; ///< Recorded by the sender.
    /// Recorded by the receiver when it has copied; an event of its own device. Null: not copied.
    std::unique_ptr<event> read;
  };

  int device_;
  size_t bytes_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<buffer>> free_;
};

/// Copies an activation to `to`, behind what `on` does now: from a GPU's buffer directly, else from
/// host bytes. @param device The current one. Errors: throws device_failure.
void receive_activation(const models::activation& from, void* to, int device, cudaStream_t on);

} // namespace troupe::models::cuda
