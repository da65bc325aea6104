#include "troupe/examples/load_test/load/driver.hpp"

#include <utility>

namespace troupe::load_test {

driver::driver(load_plan plan, uint32_t share, uint32_t shares, std::atomic<uint64_t>& tickets)
    : plan_{std::move(plan)}, share_{share}, shares_{shares}, tickets_{tickets},
      arrivals_{plan_.arrival} {
  if (plan_.users == 0) {
    plan_arrival();
    return;
  }
  for (uint64_t user = share; user < plan_.users; user += shares)
    push({static_cast<nanoseconds>(static_cast<double>(plan_.ramp_up) * static_cast<double>(user) /
                                   plan_.users),
          user, 0});
}

std::optional<nanoseconds> driver::next_due() const {
  if (pending_.empty())
    return std::nullopt;
  return pending_.top().scheduled;
}

std::optional<request_start> driver::take_due(nanoseconds now) {
  if (pending_.empty() || pending_.top().scheduled > now)
    return std::nullopt;
  auto start = pending_.top();
  pending_.pop();
  if (plan_.users == 0 && start.turn == 0)
    plan_arrival();
  if (plan_.requests > 0 && tickets_.fetch_add(1, std::memory_order_relaxed) >= plan_.requests) {
    stop();
    return std::nullopt;
  }
  return start;
}

void driver::finished(const request_start& start, nanoseconds now, bool goes_on) {
  if (plan_.users == 0 && (start.turn + 1 >= plan_.turns || !goes_on))
    return;
  auto next = start.turn + 1;
  // A closed loop's user whose conversation failed begins another one.
  if (plan_.users > 0 && !goes_on)
    next = (start.turn / plan_.turns + 1) * plan_.turns;
  push({now + plan_.think_time, start.user, next});
}

void driver::stop() {
  stopped_ = true;
  pending_ = {};
}

/// Every share counts through all arrivals and takes each `shares`-th, so that the load does not
/// depend on the number of workers.
void driver::plan_arrival() {
  while (!stopped_) {
    auto number = arrived_++;
    auto at = arrivals_.next();
    if (!at || (plan_.requests > 0 && number >= plan_.requests) ||
        (plan_.stop_at > 0 && *at >= plan_.stop_at))
      return;
    if (number % shares_ == share_)
      return push({*at, number, 0});
  }
}

void driver::push(const request_start& start) {
  if (!stopped_ && (plan_.stop_at == 0 || start.scheduled < plan_.stop_at))
    pending_.push(start);
}

} // namespace troupe::load_test
