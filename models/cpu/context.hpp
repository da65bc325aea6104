#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "troupe/models/cpu/isa.hpp"
#include "troupe/models/cpu/thread_pool.hpp"

namespace troupe::models::cpu {

struct kernel_table;

/// Memory on a cache line's boundary that grows and never shrinks; its content is lost on growth.
class scratch_buffer {
public:
  /// At least `bytes` bytes, 64-byte aligned, uninitialised.
  void* reserve(size_t bytes);
  size_t capacity() const { return capacity_; }

private:
  struct release {
    void operator()(void* p) const noexcept;
  };
  std::unique_ptr<void, release> data_;
  size_t capacity_ = 0;
};

/// Where kernels run: threads, instruction set and scratch memory. A shard owns one. Used by one
/// thread at a time; contexts of several shards do not know each other.
class context {
public:
  /// @param threads Calling thread included.
  /// @pre the processor offers `level`: take it from `select_isa` or `available_isas`.
  context(unsigned threads, isa level, bool pin = false);

  isa level() const { return level_; }
  thread_pool& pool() { return pool_; }
  const kernel_table& kernels() const { return *kernels_; }

  /// Scratch that all threads read, for one kernel's duration.
  scratch_buffer& shared_scratch() { return shared_; }
  /// Scratch of one thread of the pool.
  scratch_buffer& thread_scratch(size_t thread) { return own_[thread]; }

private:
  isa level_;
  const kernel_table* kernels_;
  thread_pool pool_;
  scratch_buffer shared_;
  std::vector<scratch_buffer> own_;
};

} // namespace troupe::models::cpu
