#pragma once

#include <compare>
#include <cstdint>
#include <map>

#include "troupe/models/cuda/memory.hpp"

namespace troupe::models::cuda {

/// All that distinguishes one recorded step from another.
struct pass_key {
  uint32_t rows = 0;    ///< Bucket.
  uint32_t context = 0; ///< Class of the longest row.
  bool greedy = true;   ///< Every row takes the sampling's short path.
  bool top = false;     ///< Somebody wants the most likely tokens.
  auto operator<=>(const pass_key&) const = default;
};

/// Steps recorded as CUDA graphs. A step of a new key runs as it is called, so that everything it
/// needs is loaded and chosen; its second one is recorded, all later ones are replayed.
class recordings {
public:
  ~recordings() { clear(); }

  /// Replays the recording of `key`. @returns false when there is none: the caller enqueues the
  /// operations on `on`, then calls `finish`. Errors: throws device_failure.
  bool replay(const pass_key& key, cudaStream_t on);

  /// Ends what a `replay` that returned false began; runs what was recorded.
  void finish(cudaStream_t on);

  /// Gives up a recording that a failure has interrupted.
  void abandon(cudaStream_t on) noexcept;

  /// Whether the next `replay` of `key` records it, or finds it recorded.
  bool seen(const pass_key& key) const;
  /// Whether nothing is left to do for `key`: it is recorded, or cannot be.
  bool settled(const pass_key& key) const;

  bool recording() const { return current_ != nullptr; }
  size_t count() const;
  void clear() noexcept;

private:
  struct entry {
    cudaGraphExec_t graph = nullptr;
    bool seen = false;
    bool refused = false; ///< It could not be recorded once and is not tried again.
  };
  std::map<pass_key, entry> entries_;
  entry* current_ = nullptr; ///< Being recorded.
};

} // namespace troupe::models::cuda
