#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "troupe/actors/generation.hpp"

namespace troupe::http {

/// The way from relays to a connection's thread: many may push, one takes, nobody waits and nothing
/// is locked. What arrives while the connection is busy is taken in one go, so that it can share a
/// socket write.
class event_port {
public:
  /// @param wake Called by a pusher when the port was empty; must make the owner call `take`.
  explicit event_port(std::function<void()> wake) : wake_(std::move(wake)) {}
  event_port(const event_port&) = delete;
  event_port& operator=(const event_port&) = delete;
  ~event_port() {
    take([](uint32_t, event_batch&) {});
  }

  /// Any thread.
  void push(uint32_t part, event_batch&& events) {
    auto* added = new node{part, std::move(events), nullptr};
    auto* head = head_.load(std::memory_order_relaxed);
    do
      added->next = head;
    while (!head_.compare_exchange_weak(head, added, std::memory_order_release,
                                        std::memory_order_relaxed));
    if (!head)
      wake_();
  }

  /// Calls `f(part, events)` for all that arrived, oldest first. The owner's thread only.
  template <class F>
  void take(F&& f) {
    auto* newest = head_.exchange(nullptr, std::memory_order_acquire);
    node* oldest = nullptr;
    while (newest) {
      auto* next = std::exchange(newest->next, oldest);
      oldest = std::exchange(newest, next);
    }
    while (oldest) {
      std::unique_ptr<node> current{oldest};
      oldest = current->next;
      f(current->part, current->events);
    }
  }

private:
  struct node {
    uint32_t part;
    event_batch events;
    node* next;
  };

  std::function<void()> wake_;
  std::atomic<node*> head_{nullptr};
};

} // namespace troupe::http
