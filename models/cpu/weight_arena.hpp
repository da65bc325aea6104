#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::models::cpu {

/// Memory for packed weights: large mappings advised to huge pages, handed out piece by piece, so
/// that small matrices share them. Zero-filled; pages cost nothing before their first write. All of
/// it is given back when the arena dies. Not thread-safe.
class weight_arena {
public:
  /// @param chunk_bytes Size of a mapping; a larger piece gets a mapping of its own.
  explicit weight_arena(size_t chunk_bytes = size_t{64} << 20) : chunk_bytes_(chunk_bytes) {}
  ~weight_arena();
  weight_arena(const weight_arena&) = delete;
  weight_arena& operator=(const weight_arena&) = delete;

  /// `bytes` zeroed bytes on a 64-byte boundary; null when the system has no memory to give.
  void* allocate(size_t bytes);

  /// Sum of what was handed out.
  size_t allocated_bytes() const { return allocated_; }

private:
  struct mapping {
    void* base;
    size_t bytes;
  };
  size_t chunk_bytes_;
  size_t allocated_ = 0;
  std::byte* next_ = nullptr;
  size_t left_ = 0;
  std::vector<mapping> mappings_;
};

} // namespace troupe::models::cpu
