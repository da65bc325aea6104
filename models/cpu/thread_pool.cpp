#include "troupe/models/cpu/thread_pool.hpp"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <pthread.h>
#include <sched.h>

namespace troupe::models::cpu {

namespace {

using namespace std::chrono_literals;

/// How long a thread looks for work before it sleeps: longer than the gaps within a step, short
/// enough not to take the processor from the threads that serve connections.
constexpr auto awake = 100us;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Waits until `value` is no longer `old`: awake first, then asleep.
uint32_t wait_for_change(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto until = std::chrono::steady_clock::now() + awake;
  do {
    for (int i = 0; i < 64; ++i) {
      const uint32_t now = value.load(std::memory_order_acquire);
      if (now != old)
        return now;
      relax();
    }
  } while (std::chrono::steady_clock::now() < until);
  uint32_t now = old;
  while ((now = value.load(std::memory_order_acquire)) == old)
    value.wait(old, std::memory_order_acquire);
  return now;
}

/// The i-th processor of those that the process may use.
void pin_to(size_t index) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
    return;
  const auto count = static_cast<size_t>(CPU_COUNT(&allowed));
  if (count == 0)
    return;
  index %= count;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || index-- != 0)
      continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

} // namespace

thread_pool::thread_pool(unsigned threads, bool pin) {
  for (unsigned i = 1; i < threads; ++i) {
    workers_.emplace_back([this, i, pin] {
      if (pin)
        pin_to(i);
      work(i);
    });
  }
}

thread_pool::~thread_pool() {
  stop_.store(true, std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_acq_rel);
  wake_.notify_all();
  for (auto& worker : workers_)
    worker.join();
}

void thread_pool::run(size_t parts, entry call, void* context) {
  call_ = call;
  context_ = context;
  parts_ = parts;
  pending_.store(static_cast<uint32_t>(parts), std::memory_order_relaxed);
  // From here on whoever takes a part sees the job: the count of unclaimed parts is changed by
  // read-modify-writes only until the next job, so a taker acquires what this store released.
  unclaimed_.store(static_cast<uint32_t>(parts), std::memory_order_release);
  wake_.fetch_add(1, std::memory_order_seq_cst);
  wake_.notify_all();
  take_parts(0);
  for (uint32_t left = pending_.load(std::memory_order_acquire); left != 0;)
    left = wait_for_change(pending_, left);
}

void thread_pool::take_parts(size_t thread) {
  uint32_t left = unclaimed_.load(std::memory_order_relaxed);
  while (left > 0) {
    if (!unclaimed_.compare_exchange_weak(left, left - 1, std::memory_order_acquire,
                                          std::memory_order_relaxed))
      continue;
    call_(context_, parts_ - left, thread);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      pending_.notify_one();
    left = unclaimed_.load(std::memory_order_relaxed);
  }
}

void thread_pool::work(size_t thread) {
  uint32_t seen = 0;
  while (!stop_.load(std::memory_order_acquire)) {
    seen = wait_for_change(wake_, seen);
    take_parts(thread);
  }
}

} // namespace troupe::models::cpu
