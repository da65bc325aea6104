#include "troupe/models/cpu/weight_arena.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace troupe::models::cpu {

namespace {

constexpr size_t huge_page = size_t{2} << 20;

size_t round_up(size_t n, size_t unit) {
  return (n + unit - 1) / unit * unit;
}

} // namespace

weight_arena::~weight_arena() {
  for (const auto& m : mappings_)
    munmap(m.base, m.bytes);
}

void* weight_arena::allocate(size_t bytes) {
  bytes = round_up(std::max<size_t>(bytes, 1), 64);
  if (bytes > left_) {
    // One huge page more than asked for, so that the piece can start on a huge page's boundary.
    const size_t mapped = round_up(std::max(bytes, chunk_bytes_), huge_page) + huge_page;
    void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
      return nullptr;
    mappings_.push_back({base, mapped});
    // Advice only: without huge pages the weights are merely read a little more slowly.
    madvise(base, mapped, MADV_HUGEPAGE);
    auto* start = static_cast<std::byte*>(base);
    const auto skip = round_up(reinterpret_cast<uintptr_t>(start), huge_page) -
                      reinterpret_cast<uintptr_t>(start);
    next_ = start + skip;
    left_ = mapped - huge_page;
  }
  void* piece = next_;
  next_ += bytes;
  left_ -= bytes;
  allocated_ += bytes;
  return piece;
}

} // namespace troupe::models::cpu
