#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace troupe::models::cpu {

/// A few threads that run the parts of one kernel after another. Starting a job costs about a
/// microsecond while the workers are awake: they spin for some 100 us after a job, then sleep in
/// the kernel and burn nothing. Several pools may coexist; each is driven by one thread at a time.
class thread_pool {
public:
  /// @param threads Calling thread included, so 1 starts no worker. 0 counts as 1.
  /// @param pin     Worker i stays on the i-th processor that the process may run on.
  explicit thread_pool(unsigned threads, bool pin = false);
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  /// Workers and the caller.
  unsigned size() const { return static_cast<unsigned>(workers_.size()) + 1; }

  /// Calls `f(part, thread)` for each part in [0, parts), thread in [0, size()), and returns when
  /// all are done; everything they wrote is then visible. Which thread runs a part is not
  /// determined, so a part must not depend on it but for scratch memory. `f` must not throw and
  /// must not call back into this pool.
  template <class F>
  void parallel_for(size_t parts, F&& f) {
    using function = std::remove_reference_t<F>;
    if (parts == 0)
      return;
    if (parts == 1 || workers_.empty()) {
      for (size_t i = 0; i < parts; ++i)
        f(i, size_t{0});
      return;
    }
    run(
        parts,
        [](void* context, size_t part, size_t thread) {
          (*static_cast<function*>(context))(part, thread);
        },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

private:
  using entry = void (*)(void* context, size_t part, size_t thread);

  void run(size_t parts, entry call, void* context);
  void work(size_t thread);
  void take_parts(size_t thread);

  // The job. Written by the driving thread while no part is pending, read only by who holds a part.
  entry call_ = nullptr;
  void* context_ = nullptr;
  size_t parts_ = 0;

  alignas(64) std::atomic<uint32_t> unclaimed_{0}; ///< Parts that nobody has taken yet.
  alignas(64) std::atomic<uint32_t> pending_{0};   ///< Parts that are not finished yet.
  alignas(64) std::atomic<uint32_t> wake_{0};      ///< Counts jobs; workers sleep on it.
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

} // namespace troupe::models::cpu
