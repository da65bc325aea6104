#pragma once

#include <utility>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "troupe/actors/interfaces.hpp"

namespace troupe::test {

/// An actor system without threads, in which only the test moves messages and time.
struct stage_config : caf::actor_system_config {
  stage_config() {
    add_message_types<caf::id_block::troupe>();
    set("scheduler.policy", caf::atom("testing"));
  }
};

/// A thin cover of CAF's test coordinator. Derive a fixture from it: the fixture's handles are then
/// gone before `~stage` lets queued messages run out, so that no actor is kept alive by one.
class stage {
public:
  stage() : coordinator_(dynamic_cast<caf::scheduler::test_coordinator&>(sys.scheduler())) {}

  ~stage() { run(); }

  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;

  /// Lets `who` handle one message. False when none waits for it.
  template <class Handle>
  bool step(const Handle& who) {
    return coordinator_.prioritize(who) && coordinator_.try_run_once();
  }

  /// Lets `who` alone handle all it has, including what it sends itself meanwhile.
  template <class Handle>
  size_t run_only(const Handle& who) {
    size_t count = 0;
    while (step(who))
      ++count;
    return count;
  }

  /// Handles one message of whoever is next. False when there is none.
  bool step() { return coordinator_.try_run_once(); }

  /// Handles messages until none is left. Time stands still.
  size_t run() {
    size_t count = 0;
    while (coordinator_.try_run_once())
      ++count;
    return count;
  }

  /// Moves the clock, fires what falls due, and handles all messages.
  void advance(caf::timespan span) {
    coordinator_.advance_time(span);
    run();
  }

  bool has_pending_timeout() const { return coordinator_.has_pending_timeout(); }

  /// Whether the next message of `who` consists of exactly these types.
  template <class... Ts, class Handle>
  bool awaits(const Handle& who) {
    auto* actor = dynamic_cast<caf::scheduled_actor*>(caf::actor_cast<caf::abstract_actor*>(who));
    auto* next = actor ? actor->peek_at_next_mailbox_element() : nullptr;
    return next && next->content().template match_elements<Ts...>();
  }

  /// Sends a request, lets everything run and gives the answer back.
  template <class Answer, class Handle, class... Ts>
  caf::expected<Answer> ask(const Handle& who, Ts&&... xs) {
    caf::scoped_actor asker{sys};
    auto pending = asker->request(who, caf::infinite, std::forward<Ts>(xs)...);
    run();
    caf::expected<Answer> result{caf::sec::request_timeout};
    pending.receive([&](const Answer& x) { result = x; },
                    [&](caf::error& e) { result = std::move(e); });
    return result;
  }

  /// Sends a message without a sender.
  template <class Handle, class... Ts>
  void tell(const Handle& who, Ts&&... xs) {
    caf::anon_send(who, std::forward<Ts>(xs)...);
  }

  stage_config cfg;
  caf::actor_system sys{cfg};

private:
  caf::scheduler::test_coordinator& coordinator_;
};

} // namespace troupe::test
