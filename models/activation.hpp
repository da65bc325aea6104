#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace troupe::models {

enum class dtype : uint8_t { fp32, bf16, fp16, int32, int64, uint8 };

/// Bytes of one element.
size_t size_of(dtype t);

/// What one shard hands to the next: a tensor of shape [tokens, hidden]. Within a process it shares
/// the storage; between processes `inspect` (actors/interfaces.hpp) writes dtype, shape and raw
/// bytes. Copying is cheap, the content is immutable once sent.
class activation {
public:
  /// Owns the bytes; implemented by each backend (a torch tensor, a peer buffer).
  class storage {
  public:
    virtual ~storage() = default;
    virtual const std::byte* host_bytes() = 0; ///< On the host; copies from a device if needed.
    virtual void* native() = 0; ///< The backend's own object; null when it came off the wire.
  };

  activation() = default;
  activation(dtype type, int64_t rows, int64_t columns, std::shared_ptr<storage> data)
      : type_(type), rows_(rows), columns_(columns), data_(std::move(data)) {}

  /// Copies raw bytes, as they came off the wire. @pre bytes.size() == byte_size()
  static activation from_bytes(dtype type, int64_t rows, int64_t columns,
                               std::vector<std::byte> bytes);

  bool empty() const { return data_ == nullptr; }
  dtype type() const { return type_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  size_t byte_size() const { return static_cast<size_t>(rows_ * columns_) * size_of(type_); }
  storage* data() const { return data_.get(); }

private:
  dtype type_ = dtype::fp32;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  std::shared_ptr<storage> data_;
};

} // namespace troupe::models
