#include "troupe/models/cuda/step_record.hpp"

#include <utility>

namespace troupe::models::cuda {

completion_thread::completion_thread(int device) : thread_([this, device] { run(device); }) {}

completion_thread::~completion_thread() {
  {
    std::lock_guard guard{mutex_};
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void completion_thread::watch(step_record* record) {
  {
    std::lock_guard guard{mutex_};
    record->watched = true;
    watched_.push_back(record);
  }
  changed_.notify_one();
}

void completion_thread::run(int device) {
  cudaSetDevice(device);
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || !watched_.empty(); });
    if (watched_.empty())
      return;
    auto* record = watched_.front();
    watched_.pop_front();
    lock.unlock();
    // An error is found again, and reported, by whoever fetches the results.
    cudaEventSynchronize(record->done.get());
    // Taken out first: the owner may use the record again once it is let go.
    auto notify = std::exchange(record->notify, nullptr);
    record->watched = false;
    record->watched.notify_one();
    notify();
    lock.lock();
  }
}

} // namespace troupe::models::cuda
