#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "troupe/models/cuda/kernels/kernels.hpp"
#include "troupe/models/cuda/kernels/sampling.hpp"
#include "troupe/models/cuda/memory.hpp"
#include "troupe/models/cuda/scatter.hpp"
#include "troupe/models/device_library.hpp"

/// What the device keeps of each live sequence, by slot: last drawn token, block table, sampling
/// parameters, rotation. The host tells it changes only, as words that go with the next step.
namespace troupe::models::cuda {

class slot_state {
public:
  /// @param slots Room at the beginning; `ensure` makes more.
  slot_state(const device_stage_shape& shape, uint32_t slots);

  /// Makes room for a slot. @returns true when everything has moved: recordings are stale then.
  /// Waits for the stream in that case. Errors: throws device_failure.
  bool ensure(uint32_t slot, cudaStream_t stream);

  void extend_table(uint32_t slot, size_t first, std::span<const uint32_t> blocks);
  void set_sampling(uint32_t slot, const slot_sampling& sampling);
  void set_frequencies(uint32_t slot, std::span<const float> frequencies);

  /// The changes since `clear_changes`, each place once.
  std::span<const scatter_word> changes();
  void clear_changes() { changes_.clear(); }

  uint32_t* words() const { return memory_.as<uint32_t>(); }
  int32_t* latest() const { return memory_.as<int32_t>(); }
  const uint32_t* tables() const { return words() + places_.tables; }
  size_t table_stride() const { return stride_; }
  const slot_sampling* sampling() const {
    return reinterpret_cast<const slot_sampling*>(words() + places_.sampling);
  }
  /// [tables, D / 2]; one table unless sequences have their own, then by slot.
  const float* frequencies() const {
    return reinterpret_cast<const float*>(words() + places_.frequencies);
  }
  /// Null where one table serves all.
  const uint32_t* rotations() const {
    return shape_.own_frequencies ? words() + places_.rotations : nullptr;
  }
  uint32_t slots() const { return slots_; }

  static size_t bytes_for(const device_stage_shape& shape, uint32_t slots);

private:
  /// In words.
  struct places {
    size_t tables = 0, sampling = 0, frequencies = 0, rotations = 0, end = 0;
  };
  static places places_for(const device_stage_shape& shape, size_t stride, uint32_t slots);
  static size_t stride_for(const device_stage_shape& shape);
  void change(size_t place, uint32_t value) {
    changes_.push_back({static_cast<uint32_t>(place), value});
  }

  device_stage_shape shape_;
  size_t stride_ = 0;
  uint32_t slots_ = 0;
  places places_;
  device_buffer memory_;
  std::vector<scatter_word> changes_;
  bool frequencies_known_ = false;
};

} // namespace troupe::models::cuda
